"""Local training: records in, an update of LoRA factors out; the same bits for the same inputs."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from llm.adapted_model import AdaptedModel, adapted, scaled_factors
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.factors import Arrays, arrays_from_adapter
from llm.private_gradients import ClippedSum, Noise, private_batches
from llm.records import Record
from llm.schedules import share_of_peak
from llm.tokenization import (
    EncodedRecord,
    by_length,
    collate,
    completion_row,
    encode,
    padding_token,
    within_tokens,
)
from llm.trained_factors import RowFactors, TrainedFactors, TrainedPart
from llm.training_settings import TrainingSettings
from llm.training_steps import (
    TrainingError,
    check_step,
    check_update,
    clip_gradients,
    on_threads,
    optimizer_of,
)

__all__ = [
    "TrainedPart",
    "TrainingError",
    "TrainingResult",
    "TrainingSettings",
    "train",
    "training_seed",
]

#: Called after every step with (steps done, steps in all, mean loss of the step in nats).
StepProgress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TrainingResult:
    """What training gave.

    Parameters
    ----------
    arrays : dict of str to ndarray of float32
        The update, under PEFT's names. Of an adapter trained in place: trained minus received, of
        the trained factors' leading rows and columns only. Of a pair trained on top: that pair.
    steps : int
        Optimizer steps.
    records : int
        Records used, each counted once.
    truncated : int
        How many of them were cut to ``max_tokens``.
    tokens : int
        Tokens processed, all epochs, without padding.
    padded_tokens : int
        The same with padding.
    losses : tuple of float
        Mean loss of each step, nats a completion token.
    gradient_norms : tuple of float
        Norm of each step's gradient before clipping.
    seconds : float
        Wall time.
    threads : int
        Processor threads used.
    """

    arrays: Arrays
    steps: int
    records: int
    truncated: int
    tokens: int
    padded_tokens: int
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    seconds: float
    threads: int

    @property
    def first_loss(self) -> float:
        """Mean loss of the first step."""
        return self.losses[0]

    @property
    def last_loss(self) -> float:
        """Mean loss of the last step."""
        return self.losses[-1]


def training_seed(run: str, round: int, organization: str) -> int:
    """Return the seed of an organization's training in a round: 64 bits of SHA-256."""
    text = "\0".join(("foedus training", run, str(round), organization))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def train(
    base: BaseModel,
    records: Sequence[Record],
    adapter: LoraAdapter,
    part: TrainedPart,
    settings: TrainingSettings,
    *,
    seed: int,
    on_top: LoraAdapter | None = None,
    noise: Noise | None = None,
    progress: StepProgress | None = None,
) -> TrainingResult:
    """Train a part of an adapter, or a fresh pair on top of it, on completions alone.

    Only the order of the records depends on the seed, and on nothing else: the global random
    states are neither read nor changed, and dropout is off. On one machine and number of threads
    equal inputs give equal bits.

    Parameters
    ----------
    base : BaseModel
        The frozen base; unchanged afterwards.
    records : sequence of Record
        What to learn, with ids all different; their order does not matter.
    adapter : LoraAdapter
        The received adapter; not modified.
    part : TrainedPart
        What of ``adapter``, or of ``on_top``, is trained.
    settings : TrainingSettings
        How.
    seed : int
        See :func:`training_seed`.
    on_top : LoraAdapter, optional
        Start of a fresh pair beside the received adapter, which is then frozen as a whole.
    noise : Noise, optional
        What the settings' privacy asks for, and needed there.
    progress : callable, optional
        Called after every step with (steps done, steps in all, mean loss).

    Returns
    -------
    TrainingResult
        The update and how it came about.

    Raises
    ------
    TrainingError
        If there are no records, ids repeat, a loss or gradient is not finite, or a factor that
        should be trained did not move.
    TokenizationError, AdapterError
        If a record cannot be encoded, or an adapter does not fit the base.
    """
    started = time.perf_counter()
    encoded = _encoded(base, records, settings)
    if on_top is not None:
        on_top.check_fits(base.linear_shapes())
    factors = TrainedFactors(on_top or adapter, part, base.compute_dtype, base.device)
    frozen = {} if on_top is None else scaled_factors(adapter, base)
    cut = by_length if settings.privacy is None else private_batches
    batches = [
        batch
        for epoch in range(settings.epochs)
        for batch in cut(encoded, batch_size=settings.batch_size, seed=seed, epoch=epoch)
    ]
    optimizer = optimizer_of(factors, settings.learning_rate)
    losses, norms, tokens, padded = [], [], 0, 0
    with on_threads(settings.threads) as threads, adapted(base, adapter) as model:
        for step, batch in enumerate(batches, start=1):
            optimizer.zero_grad()
            worn = _Worn(model, factors, frozen)
            if settings.privacy is None:
                loss, real, with_padding = _accumulate(worn, batch, base, settings)
            else:
                loss, real = _accumulate_private(worn, batch, base, settings, noise, step)
                with_padding = real
            norm = factors.gradient_norm()
            check_step(step, len(batches), loss, norm)
            clip_gradients(factors, norm, settings.max_gradient_norm)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _schedule(step, len(batches), settings)
            optimizer.step()
            losses.append(loss)
            norms.append(norm)
            tokens += real
            padded += with_padding
            if progress is not None:
                progress(step, len(batches), loss)
    update = factors.update()
    check_update(update)
    return TrainingResult(
        arrays=update if on_top is None else arrays_from_adapter(factors.trained()),
        steps=len(batches),
        records=len(encoded),
        truncated=sum(record.truncated for record in encoded),
        tokens=tokens,
        padded_tokens=padded,
        losses=tuple(losses),
        gradient_norms=tuple(norms),
        seconds=time.perf_counter() - started,
        threads=threads,
    )


def _encoded(
    base: BaseModel, records: Sequence[Record], settings: TrainingSettings
) -> list[EncodedRecord]:
    if not records:
        raise TrainingError("no records to train on: expected at least one")
    if len({record.id for record in records}) != len(records):
        raise TrainingError("record ids repeat: expected each record once (use epochs)")
    return encode(
        records,
        base.tokenizer,
        max_tokens=settings.max_tokens,
        refuse_long=settings.long_records == "refuse",
    )


@dataclass(frozen=True)
class _Worn:
    """The model, and the factors that it wears: those trained, beside those frozen."""

    model: AdaptedModel
    factors: TrainedFactors
    frozen: dict[str, tuple[torch.Tensor, torch.Tensor]]

    def put(self) -> None:
        """Have the model wear the factors as they are now; gradients flow to the trained ones."""
        self.model.put(_beside(self.frozen, self.factors.assemble()))

    def put_by_row(self, rows: int) -> RowFactors:
        """Have it wear a copy of the trained factors for each row of a batch; return them."""
        copies = self.factors.assemble_by_row(rows)
        self.model.put(_beside(self.frozen, copies.factors))
        return copies


def _accumulate(
    worn: _Worn,
    batch: Sequence[EncodedRecord],
    base: BaseModel,
    settings: TrainingSettings,
) -> tuple[float, int, int]:
    """Add one batch's gradients; return its mean loss and its tokens without and with padding."""
    rows = [completion_row(record.prompt, record.completion) for record in batch]
    targets = sum(len(row.targets) for row in rows)
    loss, real, padded = 0.0, 0, 0
    for piece in within_tokens(
        rows, max_rows=settings.micro_batch_size, max_tokens=settings.micro_batch_tokens
    ):
        micro_batch = collate(piece, padding=padding_token(base.tokenizer), device=base.device)
        worn.put()
        micro_loss = worn.model.loss(micro_batch) / targets
        micro_loss.backward()  # type: ignore[no-untyped-call]
        loss += float(micro_loss.detach())
        real += micro_batch.real_tokens
        padded += micro_batch.tokens.numel()
    return loss, real, padded


def _accumulate_private(
    worn: _Worn,
    batch: Sequence[EncodedRecord],
    base: BaseModel,
    settings: TrainingSettings,
    noise: Noise | None,
    step: int,
) -> tuple[float, int]:
    """Set one batch's noised gradients; return its records' mean loss, and its tokens.

    A record's loss is a mean over its own tokens: how long others are is no part of it.
    """
    if settings.privacy is None or noise is None:
        raise TrainingError("privacy without noise: expected both")
    summed = ClippedSum(worn.factors, settings.privacy)
    rows = [completion_row(record.prompt, record.completion) for record in batch]
    rows.sort(key=lambda row: len(row.tokens))
    loss, real = 0.0, 0
    for piece in within_tokens(
        rows, max_rows=settings.micro_batch_size, max_tokens=settings.micro_batch_tokens
    ):
        micro_batch = collate(piece, padding=padding_token(base.tokenizer), device=base.device)
        copies = worn.put_by_row(len(piece))
        counts = torch.tensor([len(row.targets) for row in piece], device=base.device)
        losses = worn.model.row_losses(micro_batch) / counts
        losses.sum().backward()  # type: ignore[no-untyped-call]
        try:
            summed.take(copies.gradients())
        except FloatingPointError as error:
            raise TrainingError(f"step {step}: {error}, expected a finite number") from error
        loss += float(losses.detach().sum())
        real += micro_batch.real_tokens
    summed.put(noise, step - 1, settings.batch_size)
    return (loss / len(rows) if rows else 0.0), real


def _beside(
    frozen: dict[str, tuple[torch.Tensor, torch.Tensor]],
    trained: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Join two adapters into one: stacked ranks add up to the sum of both updates."""
    joined = dict(frozen)
    for name, (a, b) in trained.items():
        if name in frozen:
            # Of trained ones there may be a copy for each row.
            frozen_a, frozen_b = (
                there if new.dim() == 2 else there.expand(len(new), *there.shape)
                for there, new in zip(frozen[name], (a, b), strict=True)
            )
            joined[name] = (torch.cat([frozen_a, a], dim=-2), torch.cat([frozen_b, b], dim=-1))
        else:
            joined[name] = (a, b)
    return joined


def _schedule(step: int, steps: int, settings: TrainingSettings) -> float:
    """Return the share of the peak step size at a step counted from 1."""
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    after = settings.warmup_steps
    return share_of_peak(settings.schedule, step - after, steps - after)
