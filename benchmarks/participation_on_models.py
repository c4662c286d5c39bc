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
from typing import Any, Final, Protocol

import numpy as np
import torch
from filelock import FileLock
from rich.console import Console

from benchmarks.provenance import RESULTS, provenance
from blockchain.canonical import hash_arrays
from client_app.agent.action_space import ACTIONS, SKIP, STATE_SHAPE, ActionSpace
from client_app.agent.double_q import DoubleQ, Parameters, State, Transition
from client_app.agent.situation import Outcome, Situation, reward_of
from client_app.own_data import load_own_data
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.evaluation import evaluate
from llm.factors import Arrays, arrays_from_adapter
from llm.keyed_hash import encoded, keyed_hash
from llm.records import Record
from llm.tokenization import completion_row, encode
from llm.training import TrainedPart, TrainingResult, train, training_seed
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.contributions import Loss, ScoredRound, ScoreLimits, leave_one_out
from strategies.effort import Effort
from strategies.home import cache_folder
from strategies.public_validation import PublicValidation, public_validation_set
from strategies.rewards import WEI_PER_GWEI, RewardTerms, round_rewards
from strategies.run_archive import read_json, write_json
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    base_model_settings,
    training_settings,
)
from strategies.settings import RunSettings
from strategies.validation_loss import scoring_base, validation_loss

OUTPUT = RESULTS / "participation_runs.json"
TABLES = Path(__file__).parents[1] / "client_app" / "agent" / "demo_tables.json"

EFFORT: Final = Effort("steps", (25, 50, 100))
_PURPOSE: Final = "foedus/participation-on-models/v1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", choices=("high", "low", "mixed", "learned"), required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--records", type=int, default=128, help="a round, at full effort")
    parser.add_argument("--test-rows", type=int, default=200, help="of each organization")
    parser.add_argument("--price", type=int, default=10, help="gwei a token (learned)")
    parser.add_argument("--budget", type=int, default=0, help="tokens an epoch, 0: any (learned)")
    parser.add_argument("--epoch-rounds", type=int, default=0, help="0: all rounds (learned)")
    parser.add_argument("--penalty", type=float, default=0.25, help="of a failed round (learned)")
    parser.add_argument("--tables", type=Path, default=TABLES, help="to start from (learned)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    settings = RunSettings(
        seed=options.seed, rounds=options.rounds, records_per_round=options.records
    )
    prices = Prices(
        options.price * WEI_PER_GWEI,
        options.budget,
        options.epoch_rounds or options.rounds,
        options.penalty,
    )
    policy: Policy
    if options.policy == "learned":
        policy = Learned(settings, prices, options.tables)
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


# Policies


class Policy(Protocol):
    """Decides for every organization."""

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Return the action, given what each would cost in this round, tokens."""
        ...

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Learn, after a round, what it paid (wei) and whether it counted."""
        ...

    def describe(self) -> dict[str, Any]:
        """Lay out the settings of its own."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same action always."""

    action: int

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Return it."""
        return self.action

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Take no notice."""

    def describe(self) -> dict[str, Any]:
        """Return nothing: the name says all."""
        return {}


@dataclass(frozen=True)
class Mixed:
    """Any of the actions, drawn for each organization and round by a keyed hash of the seed."""

    seed: int

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Return what is drawn."""
        drawn = keyed_hash(encoded(_PURPOSE, self.seed), _PURPOSE, "mixed", round, organization)
        return int.from_bytes(drawn, "big") % len(ACTIONS)

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Take no notice."""

    def describe(self) -> dict[str, Any]:
        """Return nothing: the seed says all."""
        return {}


@dataclass(frozen=True)
class Prices:
    """What tokens cost an organization that learns.

    Parameters
    ----------
    price : int
        Wei a token.
    budget : int
        Tokens in an epoch; 0 for any number.
    epoch_rounds : int
        Rounds of an epoch.
    penalty : float
        For training in a round that does not count.
    """

    price: int
    budget: int
    epoch_rounds: int
    penalty: float


@dataclass
class _Learner:
    """One organization's agent, and what it remembers."""

    agent: DoubleQ
    outcomes: list[Outcome] = field(default_factory=list)
    spent: int = 0
    state: State = ()
    action: int = SKIP
    costs: tuple[int, ...] = ()
    reward: float | None = None


class Learned:
    """Double Q-learning from given tables, one agent an organization, each learning on.

    Parameters
    ----------
    settings : RunSettings
        The run's.
    prices : Prices
        What training costs.
    tables : Path
        Where every agent begins.
    """

    def __init__(self, settings: RunSettings, prices: Prices, tables: Path) -> None:
        self._rounds, self._prices, self._tables = settings.rounds, prices, tables
        self._learners = {
            name: _Learner(started_agent(tables, settings.seed, name))
            for name in settings.organization_names
        }

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        """Learn from the round before, whose rewards are known now, and choose."""
        learner = self._learners[organization]
        if (round - 1) % self._prices.epoch_rounds == 0:
            learner.spent = 0
        situation = Situation(
            round=round,
            rounds=self._rounds,
            budget=self._prices.budget,
            spent=learner.spent,
            outcomes=learner.outcomes,
            last_action=learner.action,
            costs=costs,
        )
        state, permitted = situation.state(), situation.permitted()
        if learner.reward is not None:
            learner.agent.learn(
                Transition(learner.state, learner.action, learner.reward, state, permitted)
            )
        learner.state, learner.costs = state, costs
        learner.action = learner.agent.choose(state, permitted).action
        learner.spent += costs[learner.action]
        return learner.action

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        """Note what the round brought."""
        learner, price = self._learners[organization], self._prices.price
        cost, joined = learner.costs[learner.action], learner.action != SKIP
        if joined:
            learner.outcomes.append(Outcome(paid, cost * price))
        learner.reward = reward_of(
            paid=paid,
            cost=cost,
            full_cost=learner.costs[-1],
            price=price,
            failed=joined and not counted,
            penalty=self._prices.penalty,
        )

    def describe(self) -> dict[str, Any]:
        """Return prices and where the tables came from."""
        return {
            "price_gwei": self._prices.price // WEI_PER_GWEI,
            "budget": self._prices.budget,
            "epoch_rounds": self._prices.epoch_rounds,
            "penalty": self._prices.penalty,
            "tables": self._tables.name,
        }


def started_agent(tables: Path, seed: int, organization: str) -> DoubleQ:
    """Return an agent with the tables of a file, and a random state of its own.

    A file without ``step`` is one of tables that were learned: exploration is at its end.

    Raises
    ------
    ArchiveError
        If there is no such file.
    ValueError
        If its tables are about other states or actions.
    """
    document, expected = read_json(tables), ActionSpace(EFFORT).fingerprint().hex()
    if document["fingerprint"] != expected:
        raise ValueError(f"{tables}: tables of {document['fingerprint']}, expected {expected}")
    parameters = Parameters(
        **{
            name: float.fromhex(value) if isinstance(value, str) else value
            for name, value in document["parameters"].items()
        }
    )
    drawn = keyed_hash(encoded(_PURPOSE, seed), _PURPOSE, "agent", organization)
    random = np.random.Generator(np.random.PCG64(int.from_bytes(drawn, "big")))
    agent = DoubleQ(STATE_SHAPE, len(ACTIONS), parameters, random)
    for name, learned in (("tables", agent.tables), ("visits", agent.visits)):
        given = np.array(_numbers(document[name]), dtype=learned.dtype)
        if given.shape != learned.shape:
            raise ValueError(f"{tables}: {name} {given.shape}, expected {learned.shape}")
        learned[:] = given
    agent.step = int(document.get("step", parameters.exploration_steps))
    return agent


def _numbers(nested: Any) -> Any:
    if isinstance(nested, list):
        return [_numbers(value) for value in nested]
    return float.fromhex(nested) if isinstance(nested, str) else nested


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
            name: self._trained(number, state, name, records[: _records(action, len(records))])
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
                "effort_percent": ActionSpace(EFFORT).percent(action),
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
        inputs = [
            len(completion_row(record.prompt, record.completion).tokens)
            for record in encode(records, self.base.tokenizer, max_tokens=self.settings.max_tokens)
        ]
        return tuple(
            self.settings.epochs * sum(inputs[: _records(action, len(records))])
            for action in range(len(ACTIONS))
        )

    def _trained(
        self, number: int, state: AggregationState, name: str, records: Sequence[Record]
    ) -> TrainingResult:
        plan = self.rule.plan(number, self.settings.rank)
        return train(
            self.base,
            records,
            adapter_at_scale(arrays_from_adapter(self.rule.adapter(state)), self.settings),
            TrainedPart(plan.train_a, plan.train_b, plan.rank),
            training_settings(self.settings),
            seed=training_seed(str(self.settings.seed), number, name),
        )

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


def _records(action: int, full: int) -> int:
    return EFFORT.records(ActionSpace(EFFORT).percent(action), full)


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
            "effort": EFFORT.kind,
            "percents": list(EFFORT.percents),
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
