"""Attestations made up for by command, and where a chain stands."""

import itertools
import json
from functools import partial

import pytest

from client_app import local_attestors
from client_app.local_attestors import attest_rounds
from strategies import run_parts
from strategies.chain_standing import chain_standing
from tests.attestation_cases import ATTESTORS, attest
from tests.chain_samples import DISPUTES
from tests.foedus_command import foedus
from tests.signing_cases import account_of
from tests.small_federation import Federation, honest_attestor, small_settings

__all__ = ["foedus"]

pytestmark = [pytest.mark.usefixtures("flower_task"), pytest.mark.real]
pytest_plugins = ["tests.travelling_chain"]

_tasks = itertools.count(700)


@pytest.fixture
def run(tmp_path, travelling):
    """A run of two sealed rounds that nobody has attested, with both attestors' keys here."""
    settings = small_settings(
        max_tokens=next(_tasks),
        chain_url=str(travelling.settings.rpc_url),
        home=str(tmp_path),
        attestors=",".join(ATTESTORS),
    )
    travelling.home(tmp_path, *ATTESTORS)
    return Federation(tmp_path, travelling.chain, settings).run()


def asked(run, *, refusing=()):
    """Ask attestors as the command does, with a made-up loss in the model's place."""

    def ask(_, contents):
        return {
            name: "EvidenceError: not today"
            if name in refusing
            else honest_attestor(run, name, content)
            for name, content in contents.items()
        }

    return ask


def attested(run, travelling, ask, rounds=(1, 2)):
    heard = []
    found = attest_rounds(
        run.archive,
        travelling.sent_by("east"),
        account_of("east"),
        list(rounds),
        list(ATTESTORS),
        ask,
        exact=True,
        listener=lambda event, particulars: heard.append((event, particulars)),
    )
    return found, heard


def test_sealed_rounds_are_attested_by_the_attestors_that_are_here(run, travelling):
    found, _ = attested(run, travelling, asked(run))
    for number in (1, 2):
        assert run.chain.round(run.task, number).scores == found[number].hash()
        stored = run.archive.attestation(number)
        assert (sorted(stored.signatures), bool(stored.landed)) == (list(ATTESTORS), True)


def test_too_few_who_sign_leave_the_round_as_it_was(run, travelling):
    found, heard = attested(run, travelling, asked(run, refusing=("north",)), rounds=(1,))
    assert found == {1: None}
    assert not any(run.chain.round(run.task, 1).scores)
    assert run.archive.attestation(1) is None
    assert "attestor-refused" in {event for event, _ in heard}


def test_the_command_attests_what_nobody_has_and_shows_who_did(
    run, travelling, foedus, monkeypatch
):
    at = ("--home", str(run.archive.home))
    # The small federation has no model: a made-up loss, and its rule, stand in for it.
    monkeypatch.setattr(run_parts, "agreed_rule", lambda _: run.rule)
    monkeypatch.setattr(
        local_attestors, "attestors_here", lambda *_: asked(run, refusing=("north",))
    )
    status, out, err = foedus("attest", "--json", *at)
    said = json.loads(out)
    assert (status, said["refused"][0]["organization"]) == (1, "north")
    monkeypatch.setattr(local_attestors, "attestors_here", lambda *_: asked(run))
    status, out, _ = foedus("attest", "--json", *at)
    said = json.loads(out)
    assert (status, said["refused"]) == (0, [])
    assert [entry["by"] for entry in said["rounds"]] == [list(ATTESTORS)] * 2
    status, out, _ = foedus("attest", "--round", "1", *at)
    assert (status, "east, north" in out) == (0, True)
    status, _, err = foedus("attest", "--round", "9", *at)
    assert (status, "round 9 of run treaty is not sealed" in err) == (1, True)


def test_where_a_chain_stands_names_the_last_sealed_and_the_last_final_round(run, travelling):
    standing = partial(chain_standing, run.chain, run.settings, run.archive)
    now = standing().run
    assert (now.last_sealed, now.last_final, now.next_final) == (2, 0, 1)
    closed = run.chain.round(run.task, 1).closed_at
    assert now.final_from == closed + DISPUTES.challenge_window + 1
    attest(run, 1)
    travelling.travel(DISPUTES.challenge_window + 1)
    run.chain.finalize(run.task, 1)
    now = standing().run
    assert (now.last_sealed, now.last_final, now.next_final) == (2, 1, 2)
    found = standing()
    assert (found.paused, found.coordinator.low) == (False, False)
    assert found.coordinator.address == account_of("coordinator").address
    assert json.loads(json.dumps(found.to_json()))["run"]["last_final"] == 1
