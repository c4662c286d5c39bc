"""One organization's part where the model is trained to forget: its own round, and recovery."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import RecordDict

from blockchain.canonical import hash_arrays
from blockchain.private import data_sets
from blockchain.private.ledger import Ledger
from blockchain.public_chain import PublicChain
from client_app.affected_rounds import trained_leaves
from client_app.own_request import request_record
from client_app.request import CoordinatorError, Request, complete_adapter
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.draw import draw
from llm.factors import B_SUFFIX, Arrays
from llm.records import Record
from llm.splits import OrganizationData
from llm.trained_factors import TrainedFactors
from llm.training import StepProgress, TrainedPart, training_seed
from strategies import protocol
from strategies.protocol import ProtocolError
from strategies.run_parts import agreed_rule
from strategies.settings import RunSettings
from unlearning.forgetting import ForgettingSettings, forget
from unlearning.projection import without_opposition
from unlearning.verification import gather_evidence, gather_statistics, measure

_PURPOSE = "to make the model forget"

#: Rows never trained on that the records to forget are held against, at least.
_HOLD_OUT_ROWS = 32


@dataclass(frozen=True)
class Unlearned:
    """What an organization did in the round in which it unlearned.

    Parameters
    ----------
    arrays : dict of str to ndarray of float32
        Its update.
    retained : tuple of Record
        The records that were trained on beside those to forget: those that the round drew.
    tokens, steps : int
        Tokens processed and optimizer steps.
    seconds : float
        Wall time.
    first_loss, last_loss : float
        The method's loss, nats; 0 where no step was needed.
    figures : mapping of str to float
        What was measured on the records before and after, by name.
    """

    arrays: Arrays
    retained: tuple[Record, ...]
    tokens: int
    steps: int
    seconds: float
    first_loss: float
    last_loss: float
    figures: Mapping[str, float]

    @property
    def records(self) -> int:
        """How many records were trained on beside those to forget."""
        return len(self.retained)

    def metrics(self) -> dict[str, float]:
        """Return the figures that go with the reply; the effort is none that an agent chose."""
        return {
            "effort": 0.0,
            "tokens": float(self.tokens),
            "steps": float(self.steps),
            "first-loss": self.first_loss,
            "last-loss": self.last_loss,
            "train-seconds": self.seconds,
            **self.figures,
        }


def unlearn(
    base: BaseModel,
    received: LoraAdapter,
    data: OrganizationData,
    forget_set: Sequence[Record],
    allowed: Sequence[Record],
    settings: RunSettings,
    organization: str,
    round_number: int,
    progress: StepProgress,
) -> Unlearned:
    """Train the received adapter until it finds records no likelier than any never seen.

    Whoever leaves trains nothing: its own terms are taken out already, and it has no records to
    keep beside those to forget, without which unlearning damages far more than it forgets.

    Parameters
    ----------
    base : BaseModel
        The frozen base.
    received : LoraAdapter
        The global adapter, which learned the records.
    data : OrganizationData
        The organization's.
    forget_set : sequence of Record
        See :func:`forget_set_of`.
    allowed : sequence of Record
        The training records that were not forgotten.
    settings : RunSettings
        The run's.
    organization : str
        Its name.
    round_number : int
        The run's own round.
    progress : callable
        See :func:`unlearning.forgetting.forget`.

    Raises
    ------
    CoordinatorError
        If all records of an organization that stays are to be forgotten.
    """
    number = settings.logical_round(round_number)
    retained = draw(
        allowed,
        settings.records_per_round,
        seed=settings.seed,
        round=number,
        organization=organization,
    )
    leaves = organization in settings.leaver_names
    if not retained and not leaves:
        raise CoordinatorError(
            "all our records are to be forgotten, and none is left to keep beside them: ask for "
            "--withdraw, or for the exact way"
        )
    plan = agreed_rule(settings).plan(round_number, settings.rank_of(organization))
    part = TrainedPart(plan.train_a, plan.train_b, plan.rank)
    figures = forgotten_figures(base, received, data, forget_set, settings, organization)
    if leaves:
        still = TrainedFactors(received, part, base.compute_dtype, base.device).update()
        return Unlearned(still, (), 0, 0, 0.0, 0.0, 0.0, figures)
    result = forget(
        base,
        received,
        part,
        forget_set,
        retained,
        _forgetting_settings(settings),
        seed=training_seed(str(settings.seed), number, organization),
        hold_out_set=hold_out_of(data, settings, organization),
        progress=progress,
    )
    return Unlearned(
        arrays=result.arrays,
        retained=tuple(retained),
        tokens=result.tokens,
        steps=result.steps,
        seconds=result.seconds,
        first_loss=result.losses[0] if result.losses else 0.0,
        last_loss=result.losses[-1] if result.losses else 0.0,
        figures=figures,
    )


def forget_set_of(
    ledger: Ledger, settings: RunSettings, training: Sequence[Record]
) -> list[Record]:
    """Return our records that the run's requests are about, all of which have to be there still.

    Parameters
    ----------
    ledger : Ledger
        The organization's.
    settings : RunSettings
        The run's.
    training : sequence of Record
        The organization's training records, those barred included.

    Raises
    ------
    CoordinatorError
        If none of the requests is ours, one was to be carried out exactly, or a record is in the
        data no more.
    """
    positions, trained = set[int](), set[int]()
    for identifier in settings.request_ids:
        asked = request_record(ledger, identifier)
        if asked is None:
            continue
        if asked.method != "fast":
            raise CoordinatorError(
                f"the request 0x{identifier.hex()} was to be carried out exactly, the run trains "
                "the model to forget"
            )
        if asked.scope == "organization":
            trained |= trained_leaves(ledger, {s.task for s in settings.kept_rounds.spans})
        positions.update(asked.positions)
    if not positions | trained:
        raise CoordinatorError("we asked for none of the run's requests: nothing to forget")
    opened = {
        entry.position: entry.id
        for entry in data_sets.open_entries(ledger, _PURPOSE)
        if entry.position in positions | trained
    }
    # Of all that a round trained on, some may have been forgotten before: that is erased already.
    if erased := positions - opened.keys():
        raise CoordinatorError(
            f"what {len(erased)} of {len(positions)} leaves to forget stand for is erased from our "
            "ledger: ask for the exact way"
        )
    names = set(opened.values())
    found = [record for record in training if record.id in names]
    if missing := len(names) - len(found):
        raise CoordinatorError(
            f"{missing} of {len(names)} records to forget are in our data no more: to unlearn by "
            "training takes them once more, until the receipt is there"
        )
    return found


def hold_out_of(data: OrganizationData, settings: RunSettings, organization: str) -> list[Record]:
    """Return rows of the same kind that nobody trained on; none where the organization has none."""
    rows = data.validation or data.test
    return list(
        draw(
            rows,
            max(settings.validation_records, _HOLD_OUT_ROWS),
            seed=settings.seed,
            round=0,
            organization=organization,
        )
    )


def forgotten_figures(
    base: BaseModel,
    adapter: LoraAdapter,
    data: OrganizationData,
    forget_set: Sequence[Record],
    settings: RunSettings,
    organization: str,
) -> dict[str, float]:
    """Measure how well a model knows records, beside rows never trained on.

    Returns
    -------
    dict of str to float
        By the name of a reply's figure: losses, nats a completion token; accuracies; areas under
        the ROC curve of membership attacks, 0.5 where nothing tells the records from the others,
        and their standard errors; and how many rows it rests on.
    """
    hold_out = hold_out_of(data, settings, organization)
    rows = [*forget_set, *hold_out]
    found = measure(
        gather_evidence(
            base,
            adapter,
            forget=forget_set,
            hold_out=hold_out,
            reference=gather_statistics(base, rows, None, max_tokens=settings.max_tokens),
            max_tokens=settings.max_tokens,
        )
    )
    figures = {"rows": float(len(forget_set)), "hold-out-rows": float(len(hold_out))}
    for name, result in found.items():
        plain = name.replace("/", "-").replace("_", "-")
        figures[plain] = result.value
        if name.startswith("membership/") and result.standard_error is not None:
            figures[f"{plain}-error"] = result.standard_error
    return {
        f"{protocol.FORGOTTEN_FIGURE}{name}": value
        for name, value in figures.items()
        if math.isfinite(value)
    }


def recovered(
    arrays: Arrays, content: RecordDict, request: Request, settings: RunSettings, chain: PublicChain
) -> Arrays:
    """Return an update without what would undo the unlearning, in a round of recovery.

    In any other round, and where the terms have no projection, that is the update itself.

    Parameters
    ----------
    arrays : dict of str to ndarray of float32
        What was trained.
    content : RecordDict
        The coordinator's message, which brings the adapters before and after the unlearning.
    request : Request
        The same, read.
    settings : RunSettings
        The run's.
    chain : PublicChain
        A connection that can read.

    Raises
    ------
    ProtocolError, CoordinatorError
        If they are missing, malformed, or not those of the chain.
    """
    fast = settings.first_rounds
    if not fast.recovers_in(request.round) or not settings.recovery_projection:
        return arrays
    before = _adapter(content, protocol.BEFORE, settings)
    after = _adapter(content, protocol.AFTER, settings)
    kept = settings.kept_rounds
    gone_on_from = chain.round(*kept.place_of(kept.after))
    _check(before, gone_on_from.adapter_hash, "before the unlearning")
    sealed = chain.round(request.task, fast.last_unlearning)
    _check(after, sealed.adapter_hash, "after the unlearning")
    direction = {name: after[name] - before[name] for name in after if name.endswith(B_SUFFIX)}
    return without_opposition(arrays, direction)


def _adapter(content: RecordDict, key: str, settings: RunSettings) -> Arrays:
    sent = content.array_records.get(key)
    if sent is None:
        raise ProtocolError(f"a message of recovery without the adapter {key}")
    return complete_adapter(sent, agreed_rule(settings))


def _check(adapter: Arrays, expected: bytes, when: str) -> None:
    found = hash_arrays(adapter)
    if found != expected:
        raise CoordinatorError(
            f"the adapter {when} is 0x{expected.hex()} on chain, the coordinator sent "
            f"0x{found.hex()}"
        )


def _forgetting_settings(settings: RunSettings) -> ForgettingSettings:
    return ForgettingSettings(
        method=settings.forgetting_method,
        epochs=settings.forgetting_epochs,
        learning_rate=settings.forgetting_learning_rate,
        micro_batch_size=settings.micro_batch_size,
        max_tokens=settings.max_tokens,
        max_gradient_norm=settings.max_gradient_norm,
        threads=settings.threads or None,
    )
