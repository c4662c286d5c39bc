"""Scores of real rounds: their time, what copies and noise earn, and two types of arithmetic.

    python -m benchmarks.contributions [--rounds 2]

The four embedded organizations train with the default settings. Each round is scored on the public
validation set as it is, by leave-one-out and by the first-order estimate, and again with four more
in it: one that copies another's update, two that send noise, of the honest updates' norm and of a
twentieth of it, one that sends zeros. Where training computes in another type than scoring, the
gains are measured in that one too.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp

from benchmarks.provenance import RESULTS, provenance
from client_app.own_data import load_own_data
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.evaluation import evaluate
from llm.factors import Arrays, arrays_from_adapter
from llm.generalized_cross_entropy import USUAL_POWER, generalized
from llm.records import Record
from llm.training import TrainedPart, train, training_seed
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.contributions import ScoredRound, ScoreLimits, first_order, leave_one_out
from strategies.home import cache_folder
from strategies.public_validation import PublicValidation, public_validation_set
from strategies.run_archive import write_json
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    base_model_settings,
    training_settings,
)
from strategies.settings import RunSettings
from strategies.validation_loss import loss_gradient, scoring_base, validation_loss

OUTPUT = RESULTS / "contributions.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--spread-rows", type=int, default=200)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    console, settings = Console(stderr=True), RunSettings()
    cache = cache_folder(settings.home_path)
    rule, base = agreed_rule(settings), load_base_model(base_model_settings(settings), cache)
    more = settings.model_copy(update={"public_validation_records": options.spread_rows})
    rows, many = public_validation_set(settings, cache), public_validation_set(more, cache)
    if rows is None or many is None:
        raise SystemExit("the default settings name no public validation set")
    exact = scoring_base(settings, cache)
    rounds, scored_rounds, state = [], [], rule.initial_state()
    for number in range(1, options.rounds + 1):
        contributions = [
            contribution(base, rule, state, number, name, settings, cache)
            for name in settings.organization_names
        ]
        scored = ScoredRound(rule, state, number, contributions)
        scored_rounds.append(scored)
        rounds.append({"round": number, **measure(exact, rows, settings, scored)})
        rounds[-1]["spread"] = spread(exact, many.records, settings, scored)
        console.print(rounds[-1])
        state = rule.aggregate(state, number, contributions).state
    result: dict[str, Any] = {
        **provenance("python -m benchmarks.contributions", "torch", "transformers", "bitsandbytes"),
        "validation_rows": len(rows.records),
        "training_type": str(base.compute_dtype),
        "rounds": rounds,
    }
    if base is not exact:
        with validation_loss(base, rows.records, settings) as loss:
            result["gains_in_training_type"] = [
                leave_one_out(joined(scored), loss, EVERY_GAIN) for scored in scored_rounds
            ]
    write_json(options.output, result)
    show(rounds, console)


#: Gains as they are, nothing taken off.
EVERY_GAIN = ScoreLimits(0.0, 1.0)


def contribution(
    base: BaseModel,
    rule: AggregationRule,
    state: AggregationState,
    number: int,
    name: str,
    settings: RunSettings,
    cache: Path,
) -> Contribution:
    """Train as the organization would in that round."""
    records = draw(
        load_own_data(settings, name, cache).train,
        settings.records_per_round,
        seed=settings.seed,
        round=number,
        organization=name,
    )
    plan = rule.plan(number, settings.rank)
    trained = train(
        base,
        records,
        adapter_at_scale(arrays_from_adapter(rule.adapter(state)), settings),
        TrainedPart(plan.train_a, plan.train_b, plan.rank),
        training_settings(settings, number),
        seed=training_seed("benchmark", number, name),
    )
    return Contribution(name, trained.records, trained.arrays)


def measure(
    base: BaseModel, rows: PublicValidation, settings: RunSettings, scored: ScoredRound
) -> dict[str, Any]:
    """Score a round in every way."""
    limits = ScoreLimits.of(settings)
    measured: dict[str, Any] = {}
    with validation_loss(base, rows.records, settings) as loss:
        measured["loss_before"] = loss(scored.adapter(()))
        measured["loss_after"] = loss(scored.adapter(scored.accepted))
        started = time.perf_counter()
        measured["leave_one_out"] = leave_one_out(scored, loss, limits)
        measured["leave_one_out_seconds"] = time.perf_counter() - started
        measured["with_free_riders"] = leave_one_out(joined(scored), loss, limits)
        measured["gains_with_free_riders"] = leave_one_out(joined(scored), loss, EVERY_GAIN)
    gradient = loss_gradient(base, rows.records, settings)
    started = time.perf_counter()
    measured["first_order"] = first_order(scored, gradient, limits)
    measured["first_order_seconds"] = time.perf_counter() - started
    return measured


def spread(
    base: BaseModel, records: Sequence[Record], settings: RunSettings, scored: ScoredRound
) -> dict[str, dict[str, dict[str, float]]]:
    """Return each update's gain and its standard error over rows, in two losses."""
    whole = losses_of_rows(base, records, settings, scored.adapter(scored.accepted))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for one in scored.accepted:
        zeros = {name: np.zeros_like(array) for name, array in one.arrays.items()}
        silenced = [replace(c, arrays=zeros) if c is one else c for c in scored.accepted]
        without = losses_of_rows(base, records, settings, scored.adapter(silenced))
        found[one.organization] = {
            name: {
                "gain": float(np.mean(without[name] - whole[name])),
                "standard_error": float(np.std(without[name] - whole[name], ddof=1))
                / math.sqrt(len(records)),
            }
            for name in whole
        }
    return found


def losses_of_rows(
    base: BaseModel, records: Sequence[Record], settings: RunSettings, adapter: Arrays
) -> dict[str, np.ndarray[Any, Any]]:
    """Return each row's loss as scored, and its cross entropy, (rows,), nats."""
    scores = evaluate(
        base, records, adapter_at_scale(adapter, settings), max_tokens=settings.max_tokens
    ).scores
    right = []
    for record in records:
        choices = np.array(scores[record.id].choice_log_probabilities)
        right.append(logsumexp(choices) - choices[record.choices.index(record.completion)])
    return {
        "answers": generalized(torch.tensor(right), USUAL_POWER).numpy(),
        "cross_entropy": np.array([scores[record.id].loss for record in records]),
    }


def joined(scored: ScoredRound) -> ScoredRound:
    """Return a round in which free riders take part as well."""
    return replace(scored, accepted=[*scored.accepted, *free_riders(scored)])


def free_riders(scored: ScoredRound) -> list[Contribution]:
    """One that copies the first organization, two that send noise, one that sends zeros."""
    copied = scored.accepted[0]
    rng = np.random.default_rng(scored.round)
    sent: dict[str, dict[str, Any]] = {"copier": dict(copied.arrays)}
    for name, factor in (("noise", 1.0), ("whisper", 0.05)):
        sent[name] = {
            key: rng.normal(scale=factor * float(np.sqrt(np.mean(np.square(a)))), size=a.shape)
            for key, a in copied.arrays.items()
        }
    sent["zeros"] = {key: np.zeros_like(array) for key, array in copied.arrays.items()}
    return [
        Contribution(
            name, copied.num_examples, {key: np.float32(array) for key, array in arrays.items()}
        )
        for name, arrays in sent.items()
    ]


def show(rounds: list[dict[str, Any]], console: Console) -> None:
    """Print the scores, in nats."""
    ways = ("leave_one_out", "first_order", "with_free_riders", "gains_with_free_riders")
    table = Table("round", "organization", *ways, title="scores in nats")
    for measured in rounds:
        for name in measured["with_free_riders"]:
            values = (measured[way].get(name) for way in ways)
            shown = ("" if value is None else f"{value / 1e6:.4f}" for value in values)
            table.add_row(str(measured["round"]), name, *shown)
    console.print(table)


if __name__ == "__main__":
    main()
