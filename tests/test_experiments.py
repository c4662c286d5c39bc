"""The benchmark's experiments, on the tiny model and the embedded data."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from benchmarks.experiments import __main__ as command
from benchmarks.experiments import holders as split_by_holders
from benchmarks.experiments.before import Before
from benchmarks.experiments.experiment import NAMES, Attack, AttackKind, Experiment
from benchmarks.experiments.federation import carry_out
from benchmarks.experiments.holders import holders
from benchmarks.experiments.hostile import flipped, hostile_names, spoiled
from benchmarks.experiments.measured import cells_of
from benchmarks.experiments.studies import STUDIES
from benchmarks.experiments.tables import tables_of
from benchmarks.provenance import RESULTS
from benchmarks.results_file import ResultsFile, key_of
from benchmarks.results_page import PAGE, draw, page
from benchmarks.results_plots import PLOTS
from benchmarks.sheets import MISSING
from client_app.own_data import load_own_data
from llm.base_model import load_base_model
from llm.embedded_data import ORGANIZATIONS
from llm.factors import LinearShape
from llm.rows import DataError
from strategies.aggregation import RULES, AggregationSettings, Contribution
from strategies.home import cache_folder, foedus_home
from strategies.run_archive import write_json
from strategies.run_parts import base_model_settings
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = {"base_model.model.q": LinearShape(60, 50), "base_model.model.v": LinearShape(40, 70)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        "model": str(build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")),
        "quantization": "none",
        "compute_dtype": "float32",
        "rank": 4,
        "alpha": 8.0,
        "rounds": 2,
        "records_per_round": 8,
        "batch_size": 8,
        "micro_batch_size": 8,
        "learning_rate": 0.01,
        "max_tokens": 64,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def cache() -> Path:
    return cache_folder(foedus_home())


def done(experiment: Experiment, cache: Path, before: Before | None = None) -> dict[str, Any]:
    base = load_base_model(base_model_settings(experiment.run(experiment.names)), cache)
    result = carry_out(experiment, base, cache, before or Before())
    del result["seconds"]
    return result


# What an experiment is


def test_whatever_differs_in_an_experiment_is_in_the_hash_under_which_it_is_kept() -> None:
    for study in STUDIES.values():
        named = [one for seed in (42, 43) for one in study(seed)]
        assert len({name for name, _ in named}) == len(named)
        assert len({experiment.digest for _, experiment in named}) == len(named)
    # A default that is spelled out is the same input.
    assert Experiment(settings={"seed": 42}).digest == Experiment().digest


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"world": "cinema"}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"attack": {"kind": "noise"}}, "halves"),
        ({"settings": {"robust": "multi-krum", "byzantine": 1}}, "multi-krum"),
    ],
)
def test_an_experiment_whose_parts_do_not_go_together_is_refused(
    given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        Experiment.model_validate(given)


# Who holds what


def test_halves_hold_each_document_of_a_domain_once_and_no_row_that_is_tested(
    cache: Path,
) -> None:
    experiment = Experiment(world="halves", test_rows=50)
    held = holders(experiment, cache)
    run = experiment.run(experiment.names)
    assert tuple(held.train) == NAMES["halves"]
    for domain in ORGANIZATIONS:
        first, second = held.train[f"{domain}-a"], held.train[f"{domain}-b"]
        whole = load_own_data(run, domain, cache).train
        assert sorted(r.id for r in (*first, *second)) == sorted(r.id for r in whole)
        assert not {r.split_key for r in first} & {r.split_key for r in second}
        assert abs(len(first) - len(second)) < 0.2 * len(whole)
        assert len(held.test[domain]) == 50
        assert not {r.split_key for r in held.test[domain]} & {r.split_key for r in whole}


def test_a_split_by_dirichlet_shares_one_domains_rows_out_unevenly(cache: Path) -> None:
    uneven, even = (
        holders(Experiment(world="microblog", alpha=alpha), cache).train for alpha in (0.1, 100.0)
    )
    ids = [record.id for records in uneven.values() for record in records]
    assert len(ids) == len(set(ids))

    def spread(train: Any) -> float:
        shares = [
            np.mean([r.completion == r.choices[0] for r in records]) for records in train.values()
        ]
        return float(np.ptp(shares))

    assert spread(even) < 0.2
    assert spread(uneven) > 0.5


@pytest.mark.parametrize("world", ["cinema", "microblog"])
def test_a_split_by_dirichlet_is_drawn_again_until_everybody_has_rows_enough(
    world: Literal["cinema", "microblog"], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment(world=world, alpha=0.1, settings={"seed": 44}, test_rows=60)
    held = holders(experiment, cache)
    assert all(len(records) >= 100 for records in held.train.values())
    assert all(len(records) >= 20 for records in held.test.values())
    monkeypatch.setattr(split_by_holders, "_DRAWS", 1)
    with pytest.raises(DataError, match=f"{world}, Dirichlet 0.1, seed 44: none of 1 splits"):
        holders(experiment, cache)


def test_organizations_train_together_each_for_itself_or_as_one_that_holds_everything(
    cache: Path,
) -> None:
    held = holders(Experiment(test_rows=10), cache)
    every = sorted(record.id for records in held.train.values() for record in records)
    for together, sizes in {"federated": [4], "alone": [1, 1, 1, 1], "pooled": [1]}.items():
        federations = held.federations(together)
        assert [len(who) for who in federations] == sizes
        there = [r.id for who in federations for records in who.values() for r in records]
        assert sorted(there) == every


# What hostile organizations do


@given(seed=st.integers(0, 2**63 - 1), count=st.sampled_from([1, 2]))
def test_every_domain_keeps_an_honest_half(seed: int, count: int) -> None:
    names = hostile_names(Attack(kind="noise", hostile=count), seed)
    assert len({name.rpartition("-")[0] for name in names}) == count
    assert set(names) <= {name for name in NAMES["halves"] if name.endswith("-b")}
    assert names != hostile_names(Attack(kind="noise", hostile=count), seed + 1)


def test_flipped_labels_are_the_same_records_with_the_other_answer(cache: Path) -> None:
    records = holders(Experiment(test_rows=20), cache).test["cinema"]
    turned = flipped(records)
    assert [one.prompt for one in turned] == [one.prompt for one in records]
    assert all(a.completion != b.completion for a, b in zip(turned, records, strict=True))
    assert flipped(turned) == records


@pytest.mark.parametrize("rule", list(RULES))
def test_a_scaled_update_is_a_thousand_times_the_change_that_was_trained(rule: str) -> None:
    aggregation = RULES[rule](AggregationSettings(rank=2, alpha=4.0), SHAPES)
    sent = contributions(aggregation)
    attacked = attack_of(aggregation, sent, "scaled")
    state = aggregation.initial_state()
    for before, after in zip(sent, attacked, strict=True):
        was, now = (aggregation.update_norm(state, 1, one) for one in (before, after))
        hostile = before.organization in hostile_names(Attack(kind="scaled"), 0)
        # Of a pair's two trained factors the product of their steps grows by more.
        assert now >= (1000 if hostile else 1) * was * (1 - 1e-6)
        assert hostile or now == was


def test_noise_has_the_size_of_what_was_trained_or_ten_times_that() -> None:
    aggregation = RULES["ffa"](AggregationSettings(rank=16, alpha=4.0), SHAPES)
    sent = contributions(aggregation)
    state, hostile = aggregation.initial_state(), hostile_names(Attack(kind="noise"), 0)
    for kind, factor in (("noise", 1), ("loud-noise", 10)):
        attacked = attack_of(aggregation, sent, kind)
        for before, after in zip(sent, attacked, strict=True):
            was, now = (aggregation.update_norm(state, 1, one) for one in (before, after))
            expected = factor if before.organization in hostile else 1
            assert now / was == pytest.approx(expected, rel=0.2)
        assert attack_of(aggregation, sent, kind)[-1].arrays.keys() == sent[-1].arrays.keys()


def test_a_copied_update_is_an_honest_ones_under_another_name_and_who_is_absent_sends_none() -> (
    None
):
    aggregation = RULES["ffa"](AggregationSettings(rank=2, alpha=4.0), SHAPES)
    sent = contributions(aggregation)
    hostile = hostile_names(Attack(kind="copied"), 0)
    copied = attack_of(aggregation, sent, "copied")
    assert [one.organization for one in copied] == [one.organization for one in sent]
    for before, after in zip(sent, copied, strict=True):
        source = sent[0] if before.organization in hostile else before
        assert after.arrays is source.arrays
    absent = attack_of(aggregation, sent, "absent")
    assert [one.organization for one in absent] == [
        one.organization for one in sent if one.organization not in hostile
    ]


def contributions(rule: Any) -> list[Contribution]:
    rng = np.random.default_rng(7)
    shapes = rule.expected_shapes(1, rule.settings.rank)
    return [
        Contribution(
            name, 8, {n: rng.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}
        )
        for name in NAMES["halves"]
    ]


def attack_of(rule: Any, sent: list[Contribution], kind: AttackKind) -> list[Contribution]:
    attack = Attack(kind=kind)
    return spoiled(
        sent,
        attack,
        hostile_names(attack, 0),
        in_place=not rule.plan(1, rule.settings.rank).on_top,
        seed=0,
        number=1,
    )


# Carried out


def test_beyond_the_norm_bound_the_result_is_that_of_the_others_alone_to_the_last_bit(
    tiny: dict[str, Any], cache: Path
) -> None:
    def attacked(kind: AttackKind, bound: float) -> dict[str, Any]:
        experiment = Experiment(
            world="halves",
            attack=Attack(kind=kind),
            settings={**tiny, "norm_bound": bound},
            test_rows=5,
        )
        return done(experiment, cache)

    scaled, absent = attacked("scaled", 100.0), attacked("absent", 100.0)
    assert scaled["adapters"] == absent["adapters"]
    for measured in scaled["rounds"][1:]:
        assert list(measured["rejected"]) == scaled["hostile"]
    unbounded = attacked("scaled", 0.0)
    assert unbounded["adapters"] != absent["adapters"]
    assert not any("rejected" in measured for measured in unbounded["rounds"])


@pytest.mark.parametrize("rule", ["ffa", "flora"])
def test_the_same_experiment_gives_the_same_bits_whatever_was_trained_before(
    rule: str, tiny: dict[str, Any], cache: Path
) -> None:
    before = Before()
    settings = {**tiny, "aggregation": rule}
    first = done(Experiment(settings=settings, test_rows=5), cache, before)
    # Of the same first round, and of others: another rank, other records.
    for change in ({}, {"rank": 2, "alpha": 4.0}, {"records_per_round": 16}):
        experiment = Experiment(settings={**settings, **change}, test_rows=5)
        assert done(experiment, cache, before) == done(experiment, cache)
    assert done(Experiment(settings=settings, test_rows=5), cache, before) == first


def test_what_attacks_tell_is_the_same_bits_whatever_was_evaluated_before(
    tiny: dict[str, Any], cache: Path
) -> None:
    before = Before()
    attacked = {"membership": True, "every_round": True, "pool": 40, "test_rows": 5}
    for change in ({}, {"learning_rate": 0.02}):
        experiment = Experiment(settings={**tiny, **change}, **attacked)
        assert done(experiment, cache, before) == done(experiment, cache)
    # The base, its members' rows and the test rows that an attack asks about again: each once.
    rounds, sets = tiny["rounds"], 4
    assert len(before.evaluations) == (sets + 1) + 2 * (rounds * sets + 1)


def test_every_round_is_evaluated_where_that_is_asked_for_from_the_base_on(
    tiny: dict[str, Any], cache: Path
) -> None:
    often, once = (
        done(Experiment(settings=tiny, test_rows=5, every_round=every), cache)
        for every in (True, False)
    )
    assert ["tests" in one for one in often["rounds"]] == [True, True, True]
    assert ["tests" in one for one in once["rounds"]] == [False, False, True]
    assert often["rounds"][-1] == once["rounds"][-1]
    assert often["rounds"][0]["loss"] > often["rounds"][-1]["loss"]
    for measured in often["rounds"][1:]:
        assert measured["download_bytes"] > measured["upload_bytes"] > 0


def test_alone_and_pooled_take_as_many_tokens_and_send_nothing(
    tiny: dict[str, Any], cache: Path
) -> None:
    ways = {
        together: done(Experiment(together=together, settings=tiny, test_rows=5), cache)
        for together in ("federated", "alone", "pooled")
    }
    tokens = ways["federated"]["tokens"]
    assert ways["alone"]["tokens"] == tokens
    assert ways["pooled"]["tokens"] == pytest.approx(tokens, rel=0.3)
    for together, way in ways.items():
        last = way["rounds"][-1]
        assert set(last["tests"]) == set(ORGANIZATIONS)
        assert (last["upload_bytes"] > 0) == (together == "federated")
        assert ("others_accuracy" in last) == (together == "alone")
        for measured in last["tests"].values():
            assert measured["rows"] == 5
            assert measured["commonest"] in (0.6, 0.8, 1.0)
    assert len(ways["alone"]["adapters"]) == 4


def test_attacks_tell_texts_that_were_learned_by_heart_from_others(
    tiny: dict[str, Any], cache: Path
) -> None:
    def attacked(**changes: Any) -> dict[str, Any]:
        settings = {**tiny, "epochs": 4, "rank": 16, "alpha": 32.0, **changes}
        experiment = Experiment(
            form="text", pool=8, membership=True, settings=settings, test_rows=8
        )
        result = done(experiment, cache)
        assert result["rounds"][-1]["accuracy"] is None
        found: dict[str, Any] = result["membership"]
        return found

    learned, hardly = attacked(), attacked(learning_rate=1e-9)
    assert learned["reference"]["auc"] > 0.8 > hardly["reference"]["auc"]
    assert learned["loss"]["rows"] == 4 * 8
    assert 0 <= learned["loss"]["standard_error"] < 0.15


def test_a_pool_is_all_that_is_trained_on(cache: Path) -> None:
    held = holders(Experiment(pool=5, form="text", test_rows=3), cache)
    whole = holders(Experiment(test_rows=3), cache)
    for name, rows in held.train.items():
        assert len(rows) == 5
        assert {row.id for row in rows} < {row.id for row in whole.train[name]}
        assert not any(row.choices for row in (*rows, *held.test[name]))


def test_a_private_experiment_is_noised_and_gives_the_same_bits_again(
    tiny: dict[str, Any], cache: Path
) -> None:
    def private(epsilon: float) -> dict[str, Any]:
        settings = {**tiny, "privacy_epsilon": epsilon}
        return done(Experiment(settings=settings, test_rows=5), cache)

    assert private(8.0) == private(8.0)
    assert len({str(private(epsilon)["adapters"]) for epsilon in (0.0, 2.0, 8.0)}) == 3


def test_a_ruined_adapter_is_evaluated_as_answering_nothing_and_ends_no_run(
    tiny: dict[str, Any], cache: Path
) -> None:
    result = done(
        Experiment(
            world="halves",
            attack=Attack(kind="scaled"),
            # So large that what comes of it is beyond float32 in a layer or two.
            settings={**tiny, "norm_bound": 0.0, "alpha": 1e25, "learning_rate": 1.0},
            test_rows=5,
        ),
        cache,
    )
    last = result["rounds"][-1]
    assert len(result["rounds"]) == 3
    assert last.get("failed") or last.get("unchanged")
    assert last["loss"] is None
    assert last["accuracy"] == 0.0


def test_a_study_that_was_stopped_goes_on_with_what_is_missing(
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def small(seed: int) -> Any:
        for rounds, form in ((1, "label"), (2, "text")):
            settings = {**tiny, "seed": seed, "rounds": rounds}
            experiment = {"settings": settings, "form": form, "test_rows": 5}
            yield f"{rounds} rounds/{seed}", Experiment.model_validate(experiment)

    monkeypatch.setitem(STUDIES, "small", small)
    arguments = ["run", "small", "--processes", "1", "--output", str(tmp_path)]
    assert command.main([*arguments, "--only", "1 rounds"]) == 0
    (first,) = ResultsFile(tmp_path / "small.json").read()["cells"].items()
    assert command.main(arguments) == 0
    both = ResultsFile(tmp_path / "small.json").read()
    assert len(both["cells"]) == 2
    assert both["cells"][first[0]] == first[1]
    said = capsys.readouterr().err
    assert "2 experiments, 1 missing" in said
    for came_to in ("1 rounds/42: accuracy 0.", "2 rounds/42: loss "):
        assert came_to in said
    for cell in both["cells"].values():
        inputs = both["settings"][cell["setting"]]
        assert inputs["run"]["rounds"] == len(cell["rounds"]) - 1


_COMMAND = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from benchmarks.experiments.worker import begin

with ProcessPoolExecutor(1, get_context("spawn"), initializer=begin) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


def test_a_worker_ends_with_the_command_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _COMMAND], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.ppid() == parent.pid
        parent.kill()
    _, left = psutil.wait_procs([worker], timeout=30)
    for process in left:
        process.kill()
    assert left == []


# Tables


def synthetic(study: str, seeds: tuple[int, ...], accuracy: Any) -> dict[str, Any]:
    """Results of a study, each accuracy given by name and seed."""
    found: dict[str, Any] = {"settings": {}, "cells": {}}
    for seed in seeds:
        for name, experiment in STUDIES[study](seed):
            value = accuracy(name, seed)
            round_ = {
                "accuracy": value,
                "loss": None if value == 0 else value,
                "upload_bytes": 1 << 20,
                "others_accuracy": value,
                "tests": {"cinema": {"accuracy": value, "loss": 1.0, "rows": 5, "commonest": 0.6}},
            }
            rounds = experiment.run(experiment.names).rounds
            result: dict[str, Any] = {
                "rounds": [{**round_, "round": n} for n in range(rounds + 1)],
                "processor": "a processor",
                "cores": 2,
                "commit": "ab" * 20,
                "cpu_seconds": 60.0,
            }
            if experiment.membership:
                told = {"auc": 0.5, "standard_error": 0.02, "rows": 8}
                result["membership"] = {"loss": told, "reference": told}
            found["settings"][experiment.digest] = experiment.inputs
            found["cells"][key_of(name, experiment.digest)] = {
                "name": name,
                "setting": experiment.digest,
                **result,
            }
    return found


def test_where_no_round_changed_the_base_the_table_says_so() -> None:
    results = synthetic("robustness", (42, 43), lambda *_: 0.5)
    few = "ffa, multi-krum/absent x2/"
    for cell in results["cells"].values():
        # Not of one round alone, and not of one seed alone.
        started = cell["name"].startswith((few, "ffa, norm-clip/absent x1/", "ffa/absent x1/42"))
        for one in cell["rounds"][1:]:
            if started and not (cell["name"].startswith("ffa, norm-clip") and one["round"] == 1):
                one["unchanged"] = True
    [sheet] = tables_of("robustness", cells_of("robustness", results))
    marked = [
        (row[0], column)
        for row in sheet.rows
        for column, shown in zip(sheet.header, row, strict=True)
        if "†" in shown
    ]
    assert marked == [("absent x2", "ffa, multi-krum")]


@pytest.mark.parametrize("study", list(STUDIES))
def test_every_experiment_of_a_study_stands_in_its_tables(study: str) -> None:
    names = [name for name, _ in STUDIES[study](42)]
    values = {name: 0.1 + 0.8 * place / len(names) for place, name in enumerate(names)}
    results = synthetic(study, (42,), lambda name, _: values[name])
    shown = "".join(sheet.to_markdown() for sheet in tables_of(study, cells_of(study, results)))
    for value in values.values():
        assert f"{value:.3f}" in shown
    assert MISSING not in shown


def test_a_mean_over_seeds_has_students_interval_and_differences_are_seed_by_seed() -> None:
    def accuracy(name: str, seed: int) -> float:
        return 0.5 + 0.1 * (seed - 42) + (0.05 if name.startswith("fedit") else 0.0)

    results = synthetic("rules", (42, 43, 44), accuracy)
    (sheet,) = tables_of("rules", cells_of("rules", results))
    by_rule = {(row[0], row[1]): row for row in sheet.rows}
    half = t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert by_rule["ffa", "equal ranks"][2] == f"0.600 ± {half:.3f}"
    # The seeds differ, the difference does not.
    assert by_rule["fedit", "equal ranks"][4] == "+0.050 ± 0.000"


def test_federated_training_is_held_against_fedit_after_as_many_rounds_and_as_many_bytes() -> None:
    results = synthetic("together", (42, 43), lambda *_: 0.0)
    for cell in results["cells"].values():
        averaged = "/fedit/" in cell["name"]
        for one in cell["rounds"]:
            # Both gain a tenth a round, of which one costs fedit twice as much; it starts higher.
            one["accuracy"] = 0.1 * one["round"] + (0.02 if averaged else 0.0)
            one["upload_bytes"] = (one["round"] > 0) * (2 if averaged else 1) << 20
    accuracy, loss, *_ = tables_of("together", cells_of("together", results))
    rounds = {row[0]: 6 if row[0] == "domains" else 3 for row in accuracy.rows}
    for row in accuracy.rows:
        gained = 0.1 * rounds[row[0]]
        assert row[-2] == "-0.020 ± 0.000"
        assert row[-1] == f"{gained / 2 - 0.02:+.3f} ± 0.000"
    assert len(rounds) == len(loss.rows) == 5


@pytest.mark.parametrize("ruined", [("ffa",), ("fedit",), ("ffa", "fedit")])
def test_a_loss_that_is_no_number_on_one_seed_is_infinite_in_the_mean(
    ruined: tuple[str, ...],
) -> None:
    def accuracy(name: str, seed: int) -> float:
        # Nothing was right, and the model's answers are no numbers.
        return 0.0 if name.startswith(ruined) and seed == 43 else 0.5

    results = synthetic("rules", (42, 43), accuracy)
    (sheet,) = tables_of("rules", cells_of("rules", results))
    for row in sheet.rows:
        assert (row[3] == "inf") == (row[0] in ruined)


def test_what_other_settings_gave_is_not_shown() -> None:
    results = synthetic("rules", (42,), lambda *_: 0.5)
    stale = dict(results["cells"].popitem()[1], setting="0" * 16)
    results["cells"]["stale"] = stale
    cells = cells_of("rules", results)
    assert len(cells) == len(results["cells"]) - 1
    assert MISSING in "".join(sheet.to_markdown() for sheet in tables_of("rules", cells))


@pytest.mark.parametrize("study", list(STUDIES))
def test_the_page_of_results_is_made_of_the_files_and_shows_what_is_there_alone(
    tmp_path: Path, study: str
) -> None:
    assert "##" in page(tmp_path)
    write_json(tmp_path / f"{study}.json", synthetic(study, (42, 43), lambda *_: 0.625))
    shown = page(tmp_path)
    assert [line for line in shown.splitlines() if line.startswith("## ")] == [
        f"## {study.capitalize()}",
        "## Elsewhere",
    ]
    assert "0.625 ± 0.000" in shown
    assert "a processor, 2 cores" in shown
    assert page(tmp_path) == shown
    draw(tmp_path)
    assert (tmp_path / f"{study}.png").stat().st_size > 10_000
    assert f"results/{study}.png" in shown


def test_whatever_else_was_measured_is_drawn_as_well(tmp_path: Path) -> None:
    measured = [name for name in PLOTS if (RESULTS / f"{name}.json").exists()]
    assert measured
    for name in measured:
        (tmp_path / f"{name}.json").write_bytes((RESULTS / f"{name}.json").read_bytes())
    draw(tmp_path)
    for name in measured:
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
        assert f"results/{name}.png" in page(tmp_path)


def test_the_page_in_the_repository_is_the_one_that_its_files_make() -> None:
    assert PAGE.read_text() == page(RESULTS)
