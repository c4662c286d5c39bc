"""Runs in which organizations choose how hard they train, on the tiny model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.participation import model_policies
from benchmarks.participation.model_policies import Constant, Learned, Mixed, Policy
from benchmarks.participation_on_models import RunsFile, federated_run
from client_app.agent.action_space import ACTIONS, SKIP, ActionSpace
from client_app.agent.agent_file import seeded_random
from client_app.agent.agent_start import AgentStart, agent_start
from strategies.run_archive import read_json
from strategies.settings import RunSettings
from tests.organization_cases import write_reviews
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("east", "north", "south", "west")
LOW, HIGH = ACTIONS.index("low"), ACTIONS.index("high")


@dataclass(frozen=True)
class Only(Constant):
    """Some organizations alone join; notes what it is told."""

    names: tuple[str, ...] = ()
    heard: list[tuple[str, int, bool]] = field(default_factory=list)

    def decide(self, round: int, organization: str, costs: tuple[int, ...]) -> int:
        return self.action if organization in self.names else SKIP

    def told(self, organization: str, paid: int, *, counted: bool) -> None:
        self.heard.append((organization, paid, counted))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    folder = tmp_path_factory.mktemp("participation")
    for name in NAMES:
        write_reviews(folder / f"{name}.jsonl", rows=80)
    return RunSettings(
        home=str(folder / "home"),
        organizations=",".join(NAMES),
        data=str(folder / "{organization}.jsonl"),
        public_validation=str(write_reviews(folder / "public.jsonl", rows=8)),
        model=str(build_tiny_model(folder / "model")),
        quantization="none",
        compute_dtype="float32",
        rank=4,
        alpha=8.0,
        rounds=2,
        records_per_round=16,
        batch_size=8,
        micro_batch_size=8,
        learning_rate=0.01,
        max_tokens=96,
        threads=1,
    )


def run(settings: RunSettings, policy: Policy, name: str = "mixed") -> dict[str, Any]:
    return federated_run(settings, name, policy, 5, lambda run: None)


def without_times(run: dict[str, Any]) -> dict[str, Any]:
    timed = {"started", "seconds", "train_seconds", "score_seconds"}
    if isinstance(run, dict):
        return {key: without_times(value) for key, value in run.items() if key not in timed}
    return [without_times(value) for value in run] if isinstance(run, list) else run


def test_a_run_is_written_round_by_round_and_says_what_it_came_to(
    settings: RunSettings, tmp_path: Path
) -> None:
    runs, rounds_seen = RunsFile(tmp_path / "runs.json"), []

    def note(run: Mapping[str, Any]) -> None:
        runs.put(run)
        (written,) = read_json(runs.path)["runs"]
        rounds_seen.append((len(written["rounds"]), "accuracy" in written))

    federated_run(settings, "mixed", Mixed(settings.seed), 5, note)
    assert rounds_seen == [(1, False), (2, False), (2, True)]
    (written,) = read_json(runs.path)["runs"]
    assert {"seed", "policy", "commit", "processor", "settings", "tokens", "seconds"} < set(written)
    assert set(written["accuracy"]) == set(NAMES)
    assert written["mean_accuracy"] == pytest.approx(np.mean(list(written["accuracy"].values())))
    first, second = written["rounds"]
    assert (first["round"], second["round"]) == (1, 2)
    assert second["loss_before"] == first["loss_after"] != first["loss_before"]
    everyone = [entry for number in (first, second) for entry in number["organizations"].values()]
    assert len(everyone) == 8
    assert written["tokens"] == sum(entry["tokens"] for entry in everyone)
    for entry in everyone:
        percent = ActionSpace(settings.effort).percent(ACTIONS.index(entry["action"]))
        assert entry["effort_percent"] == percent
        assert entry["records"] == 16 * percent // 100
        assert (entry["tokens"] > 0) == (entry["train_seconds"] > 0) == (percent > 0)
        assert (entry["reward_gwei"] > 0) == (entry["score_micro_nats"] > 0)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(settings: RunSettings) -> None:
    once, again = (run(settings, Mixed(settings.seed)) for _ in range(2))
    assert without_times(once) == without_times(again)
    other = run(settings.model_copy(update={"seed": 43, "rounds": 1}), Mixed(43))
    assert other["rounds"][0]["adapter"] != once["rounds"][0]["adapter"]


def test_mixed_draws_every_action_about_as_often() -> None:
    drawn = [Mixed(1).decide(number, name, (0,) * 4) for number in range(100) for name in NAMES]
    assert min(np.bincount(drawn, minlength=4)) > 75


def test_low_effort_takes_its_percent_of_the_records_of_high_and_as_many_tokens(
    settings: RunSettings,
) -> None:
    low, high = run(settings, Constant(LOW), "low"), run(settings, Constant(HIGH), "high")
    assert low["tokens"] == pytest.approx(0.5 * high["tokens"], rel=0.1)
    for few, many in zip(low["rounds"], high["rounds"], strict=True):
        for name in NAMES:
            mine, theirs = few["organizations"][name], many["organizations"][name]
            assert (mine["records"], theirs["records"]) == (8, 16)
            # What an effort costs is known before: the draw of a round is one of records in order.
            assert mine["full_tokens"] == theirs["full_tokens"] == theirs["tokens"]


@pytest.mark.parametrize("names", [(), ("east",)])
def test_a_round_that_too_few_join_changes_nothing_and_pays_nobody(
    settings: RunSettings, names: tuple[str, ...]
) -> None:
    policy = Only(LOW, names)
    measured = run(settings, policy)
    first, second = measured["rounds"]
    assert first["adapter"] == second["adapter"]
    assert len({n[when] for n in (first, second) for when in ("loss_before", "loss_after")}) == 1
    for name, entry in first["organizations"].items():
        assert (entry["tokens"] > 0) == (name in names)
        assert entry["score_micro_nats"] == entry["reward_gwei"] == 0
    assert policy.heard == [(name, 0, False) for name in NAMES] * 2


def test_two_are_enough_for_a_round_to_count(settings: RunSettings) -> None:
    policy = Only(LOW, ("east", "west"))
    first, second = run(settings, policy)["rounds"]
    assert first["adapter"] != second["adapter"]
    assert all(counted for _, _, counted in policy.heard)
    paid = {name: wei for name, wei, _ in policy.heard[:4]}
    assert {n: wei // 10**9 for n, wei in paid.items()} == {
        name: entry["reward_gwei"] for name, entry in first["organizations"].items()
    }


# Learned


def favouring(monkeypatch: pytest.MonkeyPatch, favourite: int) -> None:
    """Let every agent find one action best, everywhere, and never explore."""

    def start(space: ActionSpace, *, seed: int, organization: str) -> AgentStart:
        genuine = agent_start(space, seed=seed, organization=organization)
        tables = np.zeros_like(genuine.tables)
        tables[..., favourite] = 0.1
        parameters = replace(genuine.parameters, exploration_start=0.0, exploration_end=0.0)
        return AgentStart(parameters, tables, np.zeros_like(genuine.visits), genuine.seed)

    monkeypatch.setattr(model_policies, "agent_start", start)


def test_a_learned_policy_does_what_its_tables_say_in_a_whole_run(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    favouring(monkeypatch, LOW)
    measured = run(settings, Learned(settings), "learned")
    first, _ = measured["rounds"]
    assert {entry["action"] for entry in first["organizations"].values()} == {"low"}
    assert measured["settings"]["price_gwei"] == settings.token_price


def test_agents_begin_as_those_of_a_run_do(settings: RunSettings) -> None:
    space = ActionSpace(settings.effort)
    for name, learner in Learned(settings)._learners.items():
        start = agent_start(space, seed=settings.seed, organization=name)
        assert np.array_equal(learner.agent.tables, start.tables)
        assert learner.agent.random.random() == seeded_random(start.seed).random()


def test_a_budget_is_kept_in_every_epoch(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    favouring(monkeypatch, HIGH)
    policy = Learned(
        settings.model_copy(update={"rounds": 4, "token_budget": 150, "budget_epoch": 2})
    )
    for epoch in (0, 2):
        spent = 0
        for number in (epoch + 1, epoch + 2):
            costs = (0, 25, 50, 100)
            spent += costs[policy.decide(number, "east", costs)]
            policy.told("east", 10**18, counted=True)
        assert 100 <= spent <= 150


def test_what_a_round_brought_is_learned_when_the_next_one_is_decided(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    favouring(monkeypatch, HIGH)
    policy = Learned(settings)
    learner = policy._learners["east"]
    before, costs = learner.agent.tables.copy(), (0, 25, 50, 100)
    assert policy.decide(1, "east", costs) == HIGH
    state = learner.state
    # Full effort paid nothing: its cost is lost.
    policy.told("east", 0, counted=False)
    assert learner.reward == -1.0
    assert np.array_equal(learner.agent.tables, before)
    policy.decide(2, "east", costs)
    moved = learner.agent.tables - before
    assert np.count_nonzero(moved) == 1
    assert moved[(slice(None), *state, HIGH)].sum() < 0


# The file


def test_the_file_keeps_finished_runs_and_drops_what_another_try_left_unfinished(
    tmp_path: Path,
) -> None:
    runs = RunsFile(tmp_path / "folder" / "runs.json")
    begun = {"seed": 1, "policy": "low", "settings": {"rounds": 2}, "rounds": []}
    finished = {**begun, "started": "1", "accuracy": {}}
    for started in ("1", "2", "3"):
        runs.put({**begun, "started": started})
        runs.put({**begun, "started": f"{started}, elsewhere", "seed": 2})
        if started == "1":
            runs.put(copy.deepcopy(finished))
    entries = [(run["started"], run["seed"]) for run in read_json(runs.path)["runs"]]
    assert entries == [("1", 1), ("3", 1), ("3, elsewhere", 2)]
