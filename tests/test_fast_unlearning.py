"""Requests to forget carried out by training: what is done, said of it, and left."""

import json

import numpy as np
import pytest

from blockchain.canonical import hash_arrays
from blockchain.unlearning_messages import Guarantee, RequestState
from client_app.fast_unlearning import unlearn
from client_app.receipt_check import check_receipt
from client_app.request import CoordinatorError
from llm.factors import B_SUFFIX, arrays_from_adapter
from llm.records import Record
from strategies import protocol
from strategies.lineage import Lineage, Span
from strategies.origin import OriginRounds
from strategies.run_parts import agreed_rule
from strategies.settings import RunSettings
from tests.flower_messages import flower_task
from tests.foedus_command import foedus
from tests.test_exact_replay import (
    Killed,
    drawn_first_in,
    home,
    model,
    never_there,
    runs,
    without,
)

__all__ = ["flower_task", "foedus", "home", "model"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("flower_task"),
]


def trained_in(grid, round_number):
    """Who was asked to train in a round."""
    return {
        message.content.config_records["header"]["organization"]
        for message in grid.delivered
        if (message.metadata.message_type, message.metadata.group_id)
        == ("train", str(round_number))
    }


def decoded(message, key):
    return {
        name: protocol.decode_array(array, tuple(array.shape))
        for name, array in message.content.array_records[key].items()
    }


@pytest.mark.parametrize(
    "home", [{"record_recovery_rounds": 2, "recovery_projection": True}], indirect=True, ids=[""]
)
def test_records_are_forgotten_by_training_with_a_receipt_that_says_no_more(home, model, tmp_path):
    settings = home.train().settings
    record = drawn_first_in(settings, "east", 2)
    request = home.ask("--org", "east", "--records", record, "--method", "fast")

    # Without the one that is to unlearn nothing is done, and the request stays open.
    home.carry_out(without("east"))
    assert home.state(request) is RequestState.OPEN
    [said] = settings.home_path.glob(f"runs/*/requests/{request.hex()}.json")
    assert "EMPIRICAL is refused: round 1 cannot be carried out: east (late)" in said.read_text()

    grid = home.carry_out()
    stored = home.chain.unlearning.request_of(request)
    assert stored.state is RequestState.COMPLETED
    assert stored.completion.guarantee is Guarantee.EMPIRICAL
    assert [trained_in(grid, number) for number in (1, 2, 3)] == [
        {"east"},
        {"east", "north", "south"},
        {"east", "north", "south"},
    ]

    receipt = home.receipt(request)
    evidence = receipt.evidence
    check_receipt(receipt, home.chain)
    assert (evidence.label, evidence.rounds[0], evidence.reference) == (
        "EMPIRICAL",
        2,
        "none trained",
    )
    figures = {one.name: one for one in evidence.metrics if one.organization == "east"}
    assert figures["forget-loss"].rows == 1
    assert figures["hold-out-loss"].rows > 1
    before, after = figures["forget-loss"].before, figures["forget-loss"].after
    assert float.fromhex(after) != float.fromhex(before)

    # Who recovered took out of its update, per layer, what would have undone the unlearning.
    [message] = [
        m
        for m in grid.delivered
        if (m.metadata.message_type, m.metadata.group_id) == ("train", "2")
        and m.content.config_records["header"]["organization"] == "north"
    ]
    was, became = decoded(message, protocol.BEFORE), decoded(message, protocol.AFTER)
    opening = home.now.openings(2)["north"]
    update = home.now.load_update(opening.update_hash)
    for name in (one for one in was if one.endswith(B_SUFFIX)):
        direction = np.float64(became[name] - was[name])
        along = float((update[name] * direction).sum())
        assert along >= -1e-6 * np.linalg.norm(update[name]) * np.linalg.norm(direction)

    # What held the data is gone, on both sides, and the audit says by whose request.
    for archive in runs(settings.home_path):
        assert home.failed(archive) == []
    assert not (home.now.round_folder(0) / "state.safetensors").exists()
    assert home.now.adapter_folder(3).exists()
    assert not (home.first.round_folder(2) / "state.safetensors").exists()
    assert (home.first.round_folder(1) / "state.safetensors").exists()
    openings = settings.home_path / "organizations" / "east" / "tasks" / evidence.after.task
    assert sorted(path.name for path in (openings / "openings").iterdir()) == [
        "round-0002.json",
        "round-0002.safetensors",
        "round-0003.json",
        "round-0003.safetensors",
    ]

    # Another one that asks for both: the exact way goes back before all that was unlearned, to
    # the bits of a run that never had either.
    early = drawn_first_in(settings, "north", 3)
    status, out, err = home.foedus(
        "unlearn",
        "--org",
        "north",
        "--records",
        early,
        "--method",
        "fast",
        "--then-exact",
        "--json",
    )
    assert status == 0, err
    both = [bytes.fromhex(json.loads(out)[key].removeprefix("0x")) for key in ("id", "then")]
    home.carry_out()
    assert [home.receipt(one).evidence.label for one in both] == ["EMPIRICAL", "EXACT_REPLAY"]
    left_out = {"east": [record], "north": [early]}
    assert home.states() == never_there(home, model, tmp_path, left_out)
    for archive in runs(settings.home_path):
        assert home.failed(archive) == []
    for one in both:
        check_receipt(home.receipt(one), home.chain)


def test_who_stays_has_to_have_records_to_keep_beside_those_to_forget():
    record = Record("only", "Note:", " one")
    with pytest.raises(CoordinatorError, match="none is left to keep beside them: ask for --with"):
        unlearn(None, None, None, [record], [], RunSettings(), "cinema", 1, None)


@pytest.mark.parametrize("home", [{"participation": "learn"}], indirect=True, ids=["agents"])
def test_a_run_stops_for_two_that_unlearn_one_after_the_other_and_then_goes_on(
    home, model, tmp_path
):
    asked, killed, left_out = [], [], {}

    def ask_in_round_one_and_die_after_unlearning(message):
        metadata, header = message.metadata, message.content.config_records["header"]
        if metadata.message_type != "train":
            return True
        if not asked and header["organization"] == "south":
            for name in ("east", "north"):
                record = drawn_first_in(home.settings, name, 1)
                left_out[name] = [record]
                asked.append(home.ask("--org", name, "--records", record, "--method", "fast"))
        if metadata.group_id == "3" and not killed:
            killed.append(message)
            raise Killed
        return True

    with pytest.raises(Killed):
        home.train(ask_in_round_one_and_die_after_unlearning)
    grid = home.carry_out()

    # East and north unlearned before the kill; then the two rounds that were left are trained.
    assert home.now.read_run()["terms"]["unlearners"] == "east,north"
    assert home.now.read_run()["status"] == "finished"
    everybody = {"east", "north", "south"}
    assert [trained_in(grid, number) for number in range(1, 6)] == [
        set(),
        set(),
        everybody,
        everybody,
        set(),
    ]
    for request in asked:
        assert home.state(request) is RequestState.COMPLETED
        check_receipt(home.receipt(request), home.chain)
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []
    for name in ("east", "north", "south"):
        status, out, err = home.foedus("agent", "verify", "--org", name)
        assert status == 0, out + err

    # What the first round after the unlearning began with is deleted: whoever wants one of its
    # records forgotten exactly has everything from the first round on made again.
    longer = home.settings.model_copy(update={"rounds": 5})
    left_out["south"] = [drawn_first_in(longer, "south", 4)]
    home.ask("--org", "south", "--records", *left_out["south"])
    home.carry_out()
    assert home.states() == never_there(home, model, tmp_path, left_out)
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []


@pytest.mark.parametrize(
    "home", [{"rounds": 2, "recovery_rounds": 2}], indirect=True, ids=["two-rounds"]
)
def test_whoever_withdraws_fast_is_taken_out_and_unlearned_and_the_others_recover(
    home, model, tmp_path
):
    first = home.train().first
    request = home.ask("--org", "south", "--withdraw", "--yes", "--method", "fast")
    task = bytes.fromhex(first.read_run()["task"])
    rule = agreed_rule(home.settings)
    kept = OriginRounds(home.settings.home_path, Lineage((Span(task, 2),)), ["south"])
    expected = hash_arrays(arrays_from_adapter(rule.adapter(kept.state(rule))))

    grid = home.carry_out()
    assert [trained_in(grid, number) for number in (1, 2, 3)] == [
        {"south"},
        {"east", "north"},
        {"east", "north"},
    ]
    stored = home.chain.unlearning.request_of(request)
    assert stored.completion.guarantee is Guarantee.EMPIRICAL
    evidence = home.receipt(request).evidence
    check_receipt(home.receipt(request), home.chain)
    assert (evidence.request.scope, evidence.rounds) == ("organization", [1, 2])
    genesis = home.chain.task(bytes.fromhex(evidence.after.task)).genesis_adapter
    assert genesis == expected != bytes.fromhex(evidence.before.adapter)
    figures = {one.name: one for one in evidence.metrics if one.organization == "south"}
    assert figures["forget-loss"].rows > 16
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []

    # What is asked of those who stayed goes on from there, or back before it.
    record = drawn_first_in(home.settings, "north", 2)
    home.ask("--org", "north", "--records", record)
    home.carry_out()
    left_out = {"north": [record]}
    changes = {"rounds": 2, "organizations": "east,north"}
    assert home.states() == never_there(home, model, tmp_path, left_out, **changes)
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []

    # Where too few would be left to vouch for it, nothing is done, and the request stays open.
    request = home.ask("--org", "north", "--withdraw", "--yes")
    before = len(runs(home.settings.home_path))
    home.carry_out()
    assert (home.state(request), len(runs(home.settings.home_path))) == (RequestState.OPEN, before)
    _, out, _ = home.foedus("unlearn", "status", "--org", "north", "--json")
    assert "1 attestors are left, 2 have to vouch" in out
