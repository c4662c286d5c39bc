"""A mutant is one change of code, the same in every run; no Hardhat is needed to say so."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.mutations import Outcomes, Project, described
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


def test_outcomes_are_found_again_after_a_run_that_was_killed_while_it_wrote(tmp_path):
    path = tmp_path / "work" / "outcomes.jsonl"
    first = Outcomes(path).add({"mutant": "a", "sources": "s", "outcome": "killed"})
    with path.open("a") as file:
        file.write('\n{"mutant": "b", "sou')
    again = Outcomes(path)
    assert again.get("a", "s") == first
    assert again.get("a", "t") is None
    second = again.add({"mutant": "b", "sources": "s", "outcome": "survived"})
    assert Outcomes(path).get("b", "s") == second


def test_a_survivor_is_shown_with_its_line_and_its_diff():
    mutant = next(m for m in mutants("Sample.sol", SOURCE) if m.operator == "increment removed")
    shown = described(SOURCE, mutant)
    assert shown["line"] == SOURCE.splitlines().index("        ++_count;") + 1
    assert (shown["original"], shown["mutated"]) == ("++_count;", "")
    assert "-        ++_count;" in shown["diff"]
    assert not Path(shown["file"]).is_absolute()
    json.dumps(shown)
