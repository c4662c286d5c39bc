"""Relearning attack: what is not forgotten comes back faster than it would be learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Record
from llm.repeated_loss import repeated_loss
from llm.training import TrainedPart, TrainingSettings, train
from unlearning.verification.token_statistics import VerificationError

STEPS: Final = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class RelearningCurves:
    """The forget set's loss while a few of its records are trained on again.

    Parameters
    ----------
    steps : tuple of int
        Optimizer steps, ascending from 0.
    unlearned, retrained : tuple of float
        Mean loss a completion token after as many steps, nats.
    """

    steps: tuple[int, ...]
    unlearned: tuple[float, ...]
    retrained: tuple[float, ...]

    @property
    def advantage(self) -> tuple[float, ...]:
        """How much further the unlearned model's loss has fallen than the retrained one's, nats.

        0 at the start. Positive later on: it remembers.
        """
        return tuple(
            (self.unlearned[0] - ours) - (self.retrained[0] - theirs)
            for ours, theirs in zip(self.unlearned, self.retrained, strict=True)
        )


def relearning_attack(
    base: BaseModel,
    unlearned: LoraAdapter,
    retrained: LoraAdapter,
    lessons: Sequence[Record],
    forget: Sequence[Record],
    *,
    settings: TrainingSettings | None = None,
    steps: Sequence[int] = STEPS,
    train_a: bool = False,
    seed: int = 0,
) -> RelearningCurves:
    """Train both models on a few forget records and watch the loss of the forget set.

    The targeted relearning of Hu et al. (2024, arXiv 2406.13356), with the model that never saw the
    forget set beside it: some of every fall is plain learning. Forget records that are no lessons
    show it best, since nothing but memory ties them to the lessons.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    unlearned, retrained : LoraAdapter
        What is attacked, and what it is compared with.
    lessons : sequence of Record
        What is trained on, all of it in each step.
    forget : sequence of Record
        What the loss is taken of.
    settings : TrainingSettings, optional
        Of the training. Batch size and epochs follow from ``lessons`` and ``steps``; the schedule
        is constant without a warm-up, so that a longer run begins as a shorter one.
    steps : sequence of int, optional
        Where to look. Each is a training of its own from the start: their sum is the cost.
    train_a : bool, optional
        Train A as well as B; A alone stays where B is zero.
    seed : int, optional
        See :func:`llm.training.train`.

    Raises
    ------
    VerificationError
        If there are no lessons, or a number of steps is not positive.
    TrainingError
        If training fails.
    """
    if not lessons:
        raise VerificationError("no lessons to relearn from: expected at least one forget record")
    if not steps or min(steps) < 1:
        raise VerificationError(f"relearning steps {tuple(steps)}: expected positive numbers")
    chosen = settings or TrainingSettings()
    chosen = chosen.model_copy(
        update={"batch_size": len(lessons), "warmup_steps": 0, "schedule": "constant"}
    )
    places = sorted(set(steps))

    def curve(adapter: LoraAdapter) -> tuple[float, ...]:
        reached = [adapter]
        for count in places:
            as_long = chosen.model_copy(update={"epochs": count})
            reached.append(_relearned(base, adapter, lessons, as_long, train_a, seed))
        with repeated_loss(base, forget, max_tokens=chosen.max_tokens) as loss:
            return tuple(map(loss, reached))

    return RelearningCurves((0, *places), curve(unlearned), curve(retrained))


def _relearned(
    base: BaseModel,
    adapter: LoraAdapter,
    lessons: Sequence[Record],
    settings: TrainingSettings,
    train_a: bool,
    seed: int,
) -> LoraAdapter:
    part = TrainedPart(train_a=train_a, train_b=True, rank=adapter.rank)
    update = train(base, lessons, adapter, part, settings, seed=seed).arrays
    arrays = {
        name: array + update[name] if name in update else array
        for name, array in adapter.arrays.items()
    }
    return LoraAdapter(arrays, adapter.alpha)
