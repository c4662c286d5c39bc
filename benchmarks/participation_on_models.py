"""Federated runs on the real model: organizations choose how hard they train, or not at all.

    python -m benchmarks.participation_on_models --policy high|low|mixed|learned --seed N

Four embedded organizations in one process, by the default settings, without Flower and without a
chain. Draws, training, the rule, scores and rewards are those of a run; so is the evaluation, but
for the number of test rows. The file of results holds every run that finished, each added to it as
it goes on: several processes may write to one file.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from filelock import FileLock
from rich.console import Console

from benchmarks.local_update import local_update
from benchmarks.participation.model_policies import Constant, Learned, Mixed, Policy
from benchmarks.provenance import RESULTS, provenance
from blockchain.canonical import hash_arrays
from client_app.agent.action_space import ACTIONS, SKIP, ActionSpace
from client_app.own_data import load_own_data
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.evaluation import evaluate
from llm.factors import Arrays, arrays_from_adapter
from llm.records import Record
from llm.tokenization import training_tokens
from llm.training import TrainingResult
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.contributions import Loss, ScoredRound, ScoreLimits, leave_one_out
from strategies.home import cache_folder
from strategies.public_validation import PublicValidation, public_validation_set
from strategies.rewards import WEI_PER_GWEI, RewardTerms, round_rewards
from strategies.run_archive import read_json, write_json
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    base_model_settings,
)
from strategies.settings import RunSettings
from strategies.validation_loss import scoring_base, validation_loss

OUTPUT = RESULTS / "participation_runs.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", choices=("high", "low", "mixed", "learned"), required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--records", type=int, default=128, help="a round, at full effort")
    parser.add_argument("--test-rows", type=int, default=200, help="of each organization")
    parser.add_argument("--price", type=int, default=30, help="gwei a token (learned)")
    parser.add_argument("--budget", type=int, default=0, help="tokens an epoch, 0: any (learned)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    settings = RunSettings(
        seed=options.seed,
        rounds=options.rounds,
        records_per_round=options.records,
        token_price=options.price,
        token_budget=options.budget,
    )
    policy: Policy
    if options.policy == "learned":
        policy = Learned(settings)
    elif options.policy == "mixed":
        policy = Mixed(settings.seed)
    else:
        policy = Constant(ACTIONS.index(options.policy))
    runs = RunsFile(options.output)
    run = federated_run(settings, options.policy, policy, options.test_rows, runs.put)
    Console(stderr=True).print(
        f"{options.policy}, seed {options.seed}: accuracy {run['mean_accuracy']:.4f}, "
        f"{run['tokens']:,} tokens, {run['seconds']:.0f} s"
    )


# A run


def federated_run(
    settings: RunSettings,
    name: str,
    policy: Policy,
    test_rows: int,
    note: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Run all rounds and evaluate what comes of them.

    Parameters
    ----------
    settings : RunSettings
        The run's.
    name : str
        The policy's name.
    policy : Policy
        Who joins, and how.
    test_rows : int
        Rows of each organization that are evaluated at most.
    note : callable
        Given the run so far, after every round and at the end.

    Returns
    -------
    dict
        The run as it stands in the file.
    """
    started = time.perf_counter()
    federation = Federation.of(settings)
    run = _begun(settings, name, policy, federation, test_rows)
    console, state = Console(stderr=True), federation.rule.initial_state()
    for number in range(1, settings.rounds + 1):
        measured, state = federation.round(number, state, policy)
        run["rounds"].append(measured)
        run["tokens"] += sum(o["tokens"] for o in measured["organizations"].values())
        run["seconds"] = time.perf_counter() - started
        note(run)
        console.print(_progress(name, settings, run), highlight=False)
    run["accuracy"] = federation.accuracy(state, test_rows)
    run["mean_accuracy"] = fmean(run["accuracy"].values())
    run["seconds"] = time.perf_counter() - started
    note(run)
    return run


@dataclass
class Federation:
    """What one process needs to be all organizations, the coordinator and an attestor."""

    settings: RunSettings
    cache: Path
    rule: AggregationRule
    base: BaseModel
    exact: BaseModel
    validation: PublicValidation
    known: dict[bytes, float] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: RunSettings) -> "Federation":
        """Load what a run's settings name."""
        cache = cache_folder(settings.home_path)
        validation = public_validation_set(settings, cache)
        if validation is None:
            raise SystemExit("the settings name no public validation set")
        return cls(
            settings,
            cache,
            agreed_rule(settings),
            load_base_model(base_model_settings(settings), cache),
            scoring_base(settings, cache),
            validation,
        )

    def round(
        self, number: int, state: AggregationState, policy: Policy
    ) -> tuple[dict[str, Any], AggregationState]:
        """Have a round decided, trained, aggregated, scored and paid; also return the state."""
        drawn = {name: self._drawn(number, name) for name in self.settings.organization_names}
        costs = {name: self._costs(records) for name, records in drawn.items()}
        actions = {name: policy.decide(number, name, costs[name]) for name in drawn}
        trained = {
            name: self._trained(number, state, name, records[: self._records(action, len(records))])
            for (name, records), action in zip(drawn.items(), actions.values(), strict=True)
            if action != SKIP
        }
        counted = len(trained) >= self.settings.min_organizations
        accepted = [
            Contribution(name, result.records, result.arrays)
            for name, result in trained.items()
            if counted
        ]
        after = self.rule.aggregate(state, number, accepted).state if counted else state
        measured = self._scored(ScoredRound(self.rule, state, number, accepted))
        scores = dict.fromkeys(drawn, 0) | measured.pop("scores")
        terms = RewardTerms.of(self.settings)
        paid = round_rewards(scores, pool=terms.pool, constant=terms.constant)
        for name in drawn:
            policy.told(name, paid[name], counted=counted)
        organizations = {
            name: {
                "action": ACTIONS[action],
                "effort_percent": ActionSpace(self.settings.effort).percent(action),
                "tokens": trained[name].tokens if name in trained else 0,
                "full_tokens": costs[name][-1],
                "records": trained[name].records if name in trained else 0,
                "score_micro_nats": scores[name],
                "reward_gwei": paid[name] // WEI_PER_GWEI,
                "train_seconds": round(trained[name].seconds, 3) if name in trained else 0.0,
            }
            for name, action in actions.items()
        }
        return {"round": number, **measured, "organizations": organizations}, after

    def accuracy(self, state: AggregationState, test_rows: int) -> dict[str, float]:
        """Evaluate an adapter on the same test rows of every organization, whatever the policy."""
        adapter = adapter_at_scale(arrays_from_adapter(self.rule.adapter(state)), self.settings)
        found = {}
        for name in self.settings.organization_names:
            rows = draw(
                load_own_data(self.settings, name, self.cache).test,
                test_rows,
                seed=self.settings.seed,
                round=0,
                organization=name,
            )
            result = evaluate(self.base, rows, adapter, max_tokens=self.settings.max_tokens)
            if result.accuracy is None:
                raise SystemExit(f"{name}: its test rows have no choices, expected labels")
            found[name] = result.accuracy
        return found

    def _records(self, action: int, full: int) -> int:
        effort = self.settings.effort
        return effort.records(ActionSpace(effort).percent(action), full)

    def _drawn(self, number: int, name: str) -> tuple[Record, ...]:
        """Draw for full effort: what less effort draws are the first of them."""
        return draw(
            load_own_data(self.settings, name, self.cache).train,
            self.settings.records_per_round,
            seed=self.settings.seed,
            round=number,
            organization=name,
        )

    def _costs(self, records: Sequence[Record]) -> tuple[int, ...]:
        """Count the tokens that each action would take in training."""
        tokens = [
            training_tokens(one, self.base.tokenizer, max_tokens=self.settings.max_tokens)
            for one in records
        ]
        return tuple(
            self.settings.epochs * sum(tokens[: self._records(action, len(records))])
            for action in range(len(ACTIONS))
        )

    def _trained(
        self, number: int, state: AggregationState, name: str, records: Sequence[Record]
    ) -> TrainingResult:
        received = arrays_from_adapter(self.rule.adapter(state))
        return local_update(self.base, self.rule, received, number, name, records, self.settings)

    def _scored(self, scored: ScoredRound) -> dict[str, Any]:
        """Score as an attestor does; the loss of one adapter is taken once."""
        started = time.perf_counter()
        with validation_loss(self.exact, self.validation.records, self.settings) as loss:
            once = self._once(loss)
            before, after = scored.adapter(()), scored.adapter(scored.accepted)
            return {
                "loss_before": once(before),
                "loss_after": once(after),
                "scores": leave_one_out(scored, once, ScoreLimits.of(self.settings)),
                "adapter": hash_arrays(after).hex(),
                "score_seconds": round(time.perf_counter() - started, 3),
            }

    def _once(self, loss: Loss) -> Loss:
        def once(adapter: Arrays) -> float:
            digest = hash_arrays(adapter)
            if digest not in self.known:
                self.known[digest] = loss(adapter)
            return self.known[digest]

        return once


def _begun(
    settings: RunSettings, name: str, policy: Policy, federation: Federation, test_rows: int
) -> dict[str, Any]:
    stated = provenance("", "torch")
    return {
        "seed": settings.seed,
        "policy": name,
        "started": datetime.now(UTC).isoformat(),
        "commit": stated["commit"],
        "processor": stated["processor"],
        "settings": {
            "rounds": settings.rounds,
            "records_per_round": settings.records_per_round,
            "test_rows": test_rows,
            "effort": settings.effort.kind,
            "percents": list(settings.effort.percents),
            "aggregation": settings.aggregation,
            "rank": settings.rank,
            "quantization": settings.quantization,
            "compute_dtype": str(federation.base.compute_dtype).removeprefix("torch."),
            "threads": settings.threads or torch.get_num_threads(),
            "validation_rows": len(federation.validation.records),
            **policy.describe(),
        },
        "rounds": [],
        "tokens": 0,
        "seconds": 0.0,
    }


def _progress(name: str, settings: RunSettings, run: Mapping[str, Any]) -> str:
    last = run["rounds"][-1]
    shown = ", ".join(
        f"{organization} {o['action']} {o['score_micro_nats'] / 1e6:.4f}"
        for organization, o in last["organizations"].items()
    )
    return (
        f"{name} {settings.seed}, round {last['round']}/{settings.rounds}: "
        f"loss {last['loss_before']:.4f} to {last['loss_after']:.4f}; {shown}; "
        f"{run['seconds']:.0f} s"
    )


@dataclass(frozen=True)
class RunsFile:
    """The file of results: runs that finished, and those that are going on."""

    path: Path

    def put(self, run: Mapping[str, Any]) -> None:
        """Add a run or replace what it was before; drop what another try left unfinished."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            runs = read_json(self.path)["runs"] if self.path.exists() else []
            kept = [other for other in runs if not _replaced(other, run)]
            write_json(self.path, {"runs": [*kept, run]})


def _replaced(other: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    if other["started"] == run["started"]:
        return True
    same = all(other[key] == run[key] for key in ("seed", "policy", "settings"))
    return same and "accuracy" not in other


if __name__ == "__main__":
    main()
