"""Scores of real rounds: their time, what copies and noise earn, and two types of arithmetic.

    python -m benchmarks.contributions [--rounds 2]

The four embedded organizations train with the default settings. Each round is scored on the public
validation set as it is, by leave-one-out and by the first-order estimate, and again with three
more organizations in it: one that copies another's update, one that sends noise of the honest
updates' norm, one that sends zeros. The first round is scored again in float32, which stands for
another processor: `compute-dtype` is `auto`, and not every processor is fast at bfloat16.
"""

import argparse
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance
from client_app.own_data import load_own_data
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.factors import arrays_from_adapter
from llm.training import TrainedPart, train, training_seed
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.contributions import ScoredRound, first_order, leave_one_out
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
from strategies.validation_loss import loss_gradient, validation_loss

OUTPUT = RESULTS / "contributions.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    console, settings = Console(stderr=True), RunSettings()
    cache = cache_folder(settings.home_path)
    rule, base = agreed_rule(settings), load_base_model(base_model_settings(settings), cache)
    rows = public_validation_set(settings, cache)
    if rows is None:
        raise SystemExit("the default settings name no public validation set")
    rounds, scored_rounds, state = [], [], rule.initial_state()
    for number in range(1, options.rounds + 1):
        contributions = [
            contribution(base, rule, state, number, name, settings, cache)
            for name in settings.organization_names
        ]
        scored = ScoredRound(rule, state, number, contributions)
        scored_rounds.append(scored)
        rounds.append({"round": number, **measure(base, rows, settings, scored)})
        console.print(rounds[-1])
        state = rule.aggregate(state, number, contributions).state
    exact = load_base_model(base_model_settings(settings.model_copy(update=FLOAT32)), cache)
    float32 = leave_one_out(
        scored_rounds[0], validation_loss(exact, rows.records, settings), bound=settings.score_bound
    )
    result: dict[str, Any] = {
        **provenance("python -m benchmarks.contributions", "torch", "transformers", "bitsandbytes"),
        "validation_rows": len(rows.records),
        "compute_dtype": str(base.compute_dtype),
        "rounds": rounds,
        "first_round_in_float32": float32,
    }
    write_json(options.output, result)
    show(rounds, float32, console)


FLOAT32: Mapping[str, Any] = {"compute_dtype": "float32"}


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
        training_settings(settings),
        seed=training_seed("benchmark", number, name),
    )
    return Contribution(name, trained.records, trained.arrays)


def measure(
    base: BaseModel, rows: PublicValidation, settings: RunSettings, scored: ScoredRound
) -> dict[str, Any]:
    """Score a round in every way."""
    loss = validation_loss(base, rows.records, settings)
    gradient = loss_gradient(base, rows.records, settings)
    joined = ScoredRound(
        scored.rule, scored.state, scored.round, [*scored.accepted, *free_riders(scored)]
    )
    ways = {
        "leave_one_out": partial(leave_one_out, scored, loss),
        "first_order": partial(first_order, scored, gradient),
        "with_free_riders": partial(leave_one_out, joined, loss),
    }
    measured: dict[str, Any] = {
        "loss_before": loss(scored.adapter(())),
        "loss_after": loss(scored.adapter(scored.accepted)),
    }
    for way, score in ways.items():
        started = time.perf_counter()
        measured[way] = {"micro_nats": score(bound=settings.score_bound)}
        measured[way]["seconds"] = time.perf_counter() - started
    return measured


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


def show(rounds: list[dict[str, Any]], float32: Mapping[str, int], console: Console) -> None:
    """Print the scores, in nats."""
    table = Table(title="scores in nats")
    ways = ("leave_one_out", "first_order", "with_free_riders")
    for heading in ("round", "organization", *ways, "float32"):
        table.add_column(heading)
    for measured in rounds:
        for name in measured["with_free_riders"]["micro_nats"]:
            values = [measured[way]["micro_nats"].get(name) for way in ways]
            values.append(float32.get(name) if measured["round"] == 1 else None)
            shown = ("" if value is None else f"{value / 1e6:.4f}" for value in values)
            table.add_row(str(measured["round"]), name, *shown)
        seconds = (f"{measured[way]['seconds']:.1f} s" for way in ways)
        table.add_row(str(measured["round"]), "seconds", *seconds, "")
    console.print(table)


if __name__ == "__main__":
    main()
