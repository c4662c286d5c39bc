"""Unlearning by training: whoever asks unlearns, then rounds as usual without what is gone."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.unlearning.adapter_store import Made
from benchmarks.unlearning.cells import Variant
from benchmarks.unlearning.cost import Cost, total
from benchmarks.unlearning.federation import Federation, size_of
from benchmarks.unlearning.requests import Forgotten, Gone, Request
from llm.records import Record
from llm.training import training_seed
from strategies.aggregation import AggregationState, Contribution
from unlearning.forgetting import ForgettingResult, ForgettingSettings, forget
from unlearning.verification import draw_references


@dataclass(frozen=True)
class Start:
    """Where an unlearning begins.

    Parameters
    ----------
    state : AggregationState
        What is unlearned in.
    before : AggregationState
        The model that knew the records; the unlearning update is counted from here. It differs
        from ``state`` where an organization's terms were taken out.
    number : int
        Of the first round.
    gone : Gone
        What is not there any more, this request's included.
    """

    state: AggregationState
    before: AggregationState
    number: int
    gone: Gone


def unlearned(
    federation: Federation,
    request: Request,
    start: Start,
    variant: Variant,
    tell: Callable[[str], None],
) -> Made:
    """Have everybody who asks unlearn, a round each, and the others recover.

    Parameters
    ----------
    federation : Federation
        Whose.
    request : Request
        What is forgotten.
    start : Start
        Where it begins.
    variant : Variant
        How.
    tell : callable
        Told of every round.
    """
    state, number = start.state, start.number
    # Whoever leaves trains nothing, as in a run: its terms are out, which its round seals.
    states = {number: state} if request.withdrawn else {}
    costs, details = [], {}
    for name in () if request.withdrawn else request.forgotten:
        result = _forgotten(federation, request, name, replace(start, state=state), number, variant)
        update = Contribution(name, result.records, result.arrays)
        state = federation.rule.aggregate(state, number, [update]).state
        states[number] = state
        costs.append(_cost(result))
        details[name] = _details(result)
        tell(f"{name} unlearned: {result.steps} steps, {result.stopped}, {result.seconds:.0f} s")
        number += 1
    number += request.withdrawn
    direction = federation.moved(state, start.before) if variant.projection else None
    rounds = variant.recovery(federation.setting.run, withdrawn=request.withdrawn)
    for recovery in range(number, number + rounds):
        done = federation.round(recovery, state, start.gone, unlearning=direction)
        state = states[recovery] = done.state
        costs.append(done.cost)
        tell(f"recovery, round {recovery}: {done.cost.seconds:.0f} s")
    return Made(state, total(costs), details=details, states=states)


def _forgotten(
    federation: Federation,
    request: Request,
    name: str,
    start: Start,
    number: int,
    variant: Variant,
) -> ForgettingResult:
    holding, run = federation.holdings[name], federation.setting.run
    forgotten = request.forgotten[name]
    kept = [one for one in holding.pool if one.id not in start.gone.ids]
    settings = ForgettingSettings(
        method=variant.method,  # type: ignore[arg-type]
        epochs=variant.epochs,
        learning_rate=variant.learning_rate,
        max_tokens=run.max_tokens,
        micro_batch_size=run.micro_batch_size,
        max_gradient_norm=run.max_gradient_norm,
        threads=run.threads or None,
    )
    return forget(
        federation.base,
        federation.adapter(start.state),
        federation.part(number),
        forgotten.training,
        kept,
        settings,
        seed=training_seed(f"{federation.seed} unlearning", number, name),
        hold_out_set=never_seen(federation, name, forgotten, variant.stop_rows) or None,
    )


def never_seen(
    federation: Federation, name: str, forgotten: Forgotten, count: int
) -> tuple[Record, ...]:
    """Return what the stop rule compares with: of the same kinds as what is forgotten.

    A random string that nobody trained on is far less likely than a text nobody trained on. With
    texts alone to compare with, a forget set that holds canaries would soon pass for forgotten.

    Parameters
    ----------
    federation : Federation
        Whose.
    name : str
        Who unlearns.
    forgotten : Forgotten
        What.
    count : int
        Rows, at most: validation rows and strings never trained on, in the shares of records and
        canaries in what is forgotten, copies once as the rule counts them; other strings than
        exposures are ranked among.
    """
    if not count:
        return ()
    holding, first = federation.holdings[name], federation.setting.references
    distinct = len(forgotten.records) + len(forgotten.canaries)
    texts = max(1, round(count * len(forgotten.records) / distinct))
    strings = draw_references(first + count - texts, seed=federation.seed)[first:]
    rows = holding.some(holding.validation, texts)
    return (*rows, *(string.probe for string in strings))


def _cost(result: ForgettingResult) -> Cost:
    return Cost(
        trained_tokens=result.tokens,
        read_tokens=result.read_tokens,
        seconds=result.seconds,
        travelled_bytes=2 * size_of(result.arrays),
    )


def _details(result: ForgettingResult) -> dict[str, Any]:
    return {
        "stopped": result.stopped,
        "steps": result.steps,
        "records": result.records,
        "tokens": result.tokens,
        "read_tokens": result.read_tokens,
        "seconds": round(result.seconds, 2),
        "checks": [asdict(check) for check in result.checks],
    }
