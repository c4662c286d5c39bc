"""A mutant is one change of code, the same in every run; no Hardhat is needed to say so."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.mutations import Bench, Outcomes, Project, described, summary, try_mutants
from benchmarks.solidity_mutants import Mutant, code_of, mutants, spread
from blockchain.toolchain import hardhat_folder

SOURCE = """\
// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Other} from "./Other<=1.sol";

/// @notice Never more than 1 && never true.
contract Sample is Other {
    using Other for uint256;
    uint256 private constant _MOST = 10_000; // 1 < 2
    mapping(bytes32 => uint256) private _sums;

    /* if (a == b) revert X(); */
    function add(uint256 value) external onlyOwner returns (uint256 sum) {
        if (value >= _MOST && !_open) revert TooMuch("1 < 2; a && b", value);
        if (_paused) {
            revert Paused();
        }
        ++_count;
        for (uint256 i = 0; i < value; ++i) {
            _sums[msg.sender] += 0x0f;
        }
        emit Added(value, true); /* value - 1 */
        return _sums[msg.sender] - 1;
    }
}
"""


def operators(text):
    return Counter(mutant.operator for mutant in mutants("Sample.sol", text))


def changed(operator):
    return {
        (SOURCE[m.start : m.end], m.replacement)
        for m in mutants("Sample.sol", SOURCE)
        if m.operator == operator
    }


def contracts():
    folder = hardhat_folder() / "contracts"
    return {path.name: path.read_text() for path in sorted(folder.glob("*.sol"))}


def all_sources():
    return {"Sample.sol": SOURCE, **contracts()}


@pytest.mark.parametrize(
    ("operator", "changes"),
    [
        ("comparison negated", {(">=", "<"), ("<", ">=")}),
        ("boundary moved", {(">=", ">"), ("<", "<=")}),
        ("connective swapped", {("&&", "||")}),
        ("arithmetic swapped", {("++", "--"), ("+=", "-="), ("-", "+")}),
        ("constant raised", {("10_000", "10001"), ("0", "1"), ("0x0f", "0x10"), ("1", "2")}),
        ("truth value swapped", {("true", "false")}),
        ("negation removed", {("!", "")}),
        (
            "condition negated",
            {
                ("value >= _MOST && !_open", "!(value >= _MOST && !_open)"),
                ("_paused", "!(_paused)"),
            },
        ),
        (
            "guard removed",
            {
                ('if (value >= _MOST && !_open) revert TooMuch("1 < 2; a && b", value);', ""),
                ("if (_paused) {\n            revert Paused();\n        }", ""),
            },
        ),
        ("increment removed", {("++_count;", "")}),
        (
            "statement deleted",
            {("_sums[msg.sender] += 0x0f;", ""), ("emit Added(value, true);", "")},
        ),
        ("modifier removed", {("onlyOwner", "")}),
    ],
)
def test_an_operator_changes_every_place_that_it_applies_to_and_no_other(operator, changes):
    assert changed(operator) == changes


def test_no_operator_goes_untested():
    tested = {
        mark.args[1][i][0]
        for mark in test_an_operator_changes_every_place_that_it_applies_to_and_no_other.pytestmark
        for i in range(len(mark.args[1]))
    }
    assert set(operators(SOURCE)) == tested


def test_a_mutant_changes_exactly_one_place():
    for name, source in all_sources().items():
        for mutant in mutants(name, source):
            assert mutant.start < mutant.end
            mutated = mutant.apply(source)
            assert mutated != source
            assert mutated.startswith(source[: mutant.start])
            assert mutated.endswith(source[mutant.end :])


def test_comments_strings_imports_and_pragmas_stay():
    # Found here by another way than the mutator's own: by the first character of each line.
    for name, source in all_sources().items():
        kept = [r"^\s*//.*$", r"^\s*/\*.*$", r"^import [^;]*;", r"^pragma .*$"]
        spans = [m.span() for each in kept for m in re.finditer(each, source, re.MULTILINE)]
        for mutant in mutants(name, source):
            assert not any(start < mutant.end and mutant.start < end for start, end in spans)
    strings = [m.span() for m in re.finditer(r'"[^"\n]*"', SOURCE)]
    inside = [
        mutant
        for mutant in mutants("Sample.sol", SOURCE)
        if any(start <= mutant.start and mutant.end <= end for start, end in strings)
    ]
    assert inside == []


def test_what_is_no_code_is_blanked_out_in_place():
    code = code_of(SOURCE)
    assert len(code) == len(SOURCE)
    assert code.count("\n") == SOURCE.count("\n")
    assert "1 < 2" not in code
    assert "value >= _MOST && !_open" in code


def test_equal_seeds_give_equal_mutants_and_others_do_not():
    sites = {name: mutants(name, source) for name, source in contracts().items()}
    sites = {name: each for name, each in sites.items() if each}
    assert spread(sites, 1) == spread(dict(reversed(sites.items())), 1)
    assert spread(sites, 1) != spread(sites, 2)
    assert sorted(spread(sites, 1)) == sorted(each for of in sites.values() for each in of)


def test_every_beginning_takes_about_the_same_share_of_each_contract():
    sites = {name: mutants(name, source) for name, source in contracts().items()}
    sites = {name: each for name, each in sites.items() if each}
    total = sum(map(len, sites.values()))
    drawn = Counter(mutant.file for mutant in spread(sites, 7)[:50])
    for name, each in sites.items():
        assert abs(drawn[name] - 50 * len(each) / total) < 2


def test_every_mutant_has_a_key_of_its_own():
    for name, source in all_sources().items():
        found = mutants(name, source)
        assert len({mutant.key for mutant in found}) == len(
            {(mutant.start, mutant.end, mutant.replacement) for mutant in found}
        )


def test_tests_that_import_a_contract_are_run_and_the_nearest_come_first():
    project = Project(hardhat_folder())
    name = "contracts/Rewards.sol"
    source = project.sources[name]
    start = source.index("if (msg.value == 0)")
    tests = project.tests_of(Mutant(name, start, start + 1, "any", ""))
    assert tests[0] == "test/Rewards.t.sol"
    assert all("Rewards" in test for test in tests)
    deep = project.tests_of(Mutant("contracts/LeafHash.sol", 0, 1, "any", ""))
    assert "test/RoundsInclusion.t.sol" in deep
    assert "test/Rewards.t.sol" not in deep


def test_the_sources_of_an_outcome_are_those_that_its_tests_rest_on():
    project, other = Project(hardhat_folder()), Project(hardhat_folder())
    other.sources["contracts/Anchors.sol"] += "\n"
    rewards, anchors = ["test/Rewards.t.sol"], ["test/Anchors.t.sol"]
    assert project.hash_of(rewards) == other.hash_of(rewards)
    assert project.hash_of(anchors) != other.hash_of(anchors)


def test_outcomes_hold_as_long_as_what_they_rest_on_does(tmp_path):
    project = Project(hardhat_folder())
    path, tests = tmp_path / "work" / "outcomes.jsonl", ["test/Anchors.t.sol"]
    record = {"mutant": "a", "tests": tests, "sources": project.hash_of(tests), "outcome": "killed"}
    Outcomes(path).add(record)
    assert Outcomes(path).of("a", project) == [record]
    assert Outcomes(path).of("b", project) == []
    project.sources["contracts/Rewards.sol"] += "\n"
    assert Outcomes(path).of("a", project) == [record]
    project.sources["contracts/Anchors.sol"] += "\n"
    assert Outcomes(path).of("a", project) == []
    project.tests.remove(tests[0])
    assert Outcomes(path).of("a", project) == []


def test_outcomes_are_found_again_after_a_run_that_was_killed_while_it_wrote(tmp_path):
    project = Project(hardhat_folder())
    path, tests = tmp_path / "outcomes.jsonl", ["test/Anchors.t.sol"]
    known = {"tests": tests, "sources": project.hash_of(tests), "outcome": "killed"}
    Outcomes(path).add({"mutant": "a", **known})
    with path.open("a") as file:
        file.write('\n{"mutant": "b", "sou')
    Outcomes(path).add({"mutant": "b", **known})
    assert len(Outcomes(path).of("a", project)) == len(Outcomes(path).of("b", project)) == 1


def test_a_survivor_is_shown_with_its_line_and_its_diff():
    mutant = next(m for m in mutants("Sample.sol", SOURCE) if m.operator == "increment removed")
    shown = described(SOURCE, mutant)
    assert shown["line"] == SOURCE.splitlines().index("        ++_count;") + 1
    assert (shown["original"], shown["mutated"]) == ("++_count;", "")
    assert "-        ++_count;" in shown["diff"]
    assert not Path(shown["file"]).is_absolute()
    json.dumps(shown)


def bench_of(tmp_path, monkeypatch, outcomes, ran):
    """A bench whose Hardhat is a list of outcomes; `ran` is told what it was asked to run."""
    project, left = Project(hardhat_folder()), list(outcomes)

    def run(self, tests, time_limit):
        changed = [
            name
            for name in project.sources
            if (tmp_path / "copy" / name).read_text() != project.sources[name]
        ]
        ran.append((tests, changed))
        return {"outcome": left.pop(0), "seconds": 1.0}

    monkeypatch.setattr(Bench, "_run", run)
    (tmp_path / "copy").mkdir()
    return Bench(project, tmp_path / "copy", Outcomes(tmp_path / "outcomes.jsonl"))


def a_mutant(bench):
    name = "contracts/Rewards.sol"
    return mutants(name, bench.project.sources[name])[0]


def test_a_mutant_is_tested_by_the_nearest_tests_and_then_by_all_that_may_notice_it(
    tmp_path, monkeypatch
):
    ran = []
    bench = bench_of(tmp_path, monkeypatch, ["survived", "survived"], ran)
    assert bench.test(a_mutant(bench))["outcome"] == "survived"
    tests = bench.project.tests_of(a_mutant(bench))
    assert ran == [
        (sorted(tests[:2]), ["contracts/Rewards.sol"]),
        (sorted(tests), ["contracts/Rewards.sol"]),
    ]
    original = bench.project.sources["contracts/Rewards.sol"]
    assert (tmp_path / "copy" / "contracts" / "Rewards.sol").read_text() == original


def test_a_known_outcome_is_not_found_out_again(tmp_path, monkeypatch):
    ran = []
    bench = bench_of(tmp_path, monkeypatch, ["killed"], ran)
    first = bench.test(a_mutant(bench))
    assert bench.test(a_mutant(bench)) == first
    assert first["outcome"] == "killed"
    assert len(ran) == 1


def test_a_crash_counts_only_if_it_happens_twice(tmp_path, monkeypatch):
    ran = []
    bench = bench_of(tmp_path, monkeypatch, ["crashed", "killed"], ran)
    assert bench.test(a_mutant(bench))["outcome"] == "killed"
    assert ran[0] == ran[1]


def test_tests_that_fail_without_a_mutant_end_the_run(tmp_path, monkeypatch):
    bench = bench_of(tmp_path, monkeypatch, ["killed"], [])
    with pytest.raises(SystemExit, match="without a mutant"):
        bench.require_passing()


def test_mutants_that_do_not_compile_are_replaced_and_counted_apart(tmp_path, monkeypatch):
    outcomes = ["does not compile", "killed", "timed out", "survived", "survived"]
    bench = bench_of(tmp_path, monkeypatch, outcomes, [])
    name = "contracts/Rewards.sol"
    order = spread({name: mutants(name, bench.project.sources[name])}, 1)
    tested = try_mutants(bench, order, 3, Console(quiet=True))
    found = summary(bench.project, tested)
    assert found["counts"] == {
        "killed": 1,
        "timed out": 1,
        "crashed": 0,
        "survived": 1,
        "does not compile": 1,
    }
    assert found["share_killed"] == pytest.approx(2 / 3)
    assert [survivor["file"] for survivor in found["survivors"]] == [name]
