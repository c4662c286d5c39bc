"""The summary: what each organization did in each round, what it spent and what it earned."""

import json

import pytest
from flwr.app import Error

from server_app.closing import Closing
from server_app.summary import summarize
from strategies import protocol
from tests.attestation_cases import attest
from tests.signing_cases import NAMES
from tests.small_federation import (
    Federation,
    LightChain,
    declining,
    honest_attestor,
    small_settings,
)

pytestmark = pytest.mark.usefixtures("flower_task")

TWO = {"east": honest_attestor, "north": honest_attestor}
SECONDS = {"setup": 0.0, "chain": 0.0, "attest": 0.0, "total": 0.0}


def settings_of(**changes):
    return small_settings(
        effort_levels="25,50,100", token_price=3, token_prices="south=7", rounds=3, **changes
    )


def reporting(**figures):
    """Answer honestly, with figures beside it in every round."""

    def answer(content, *_):
        content[protocol.METRICS].update({name.replace("_", "-"): v for name, v in figures.items()})
        return content

    return answer


def summary_of(federation):
    return summarize(
        settings=federation.settings,
        archive=federation.archive,
        closings={name: Closing("tweets", {}) for name in NAMES},
        contracts={},
        opening_gas_used=0,
        seconds=SECONDS,
    )


def did(summary, name):
    return [entry["did"] for entry in summary["organizations"][name]["rounds"]]


def test_every_round_says_what_each_organization_did_spent_and_earned(tmp_path):
    def varied(content, number, sign):
        effort = {1: 25.0, 2: 50.0, 3: 100.0}[number]
        return reporting(effort=effort, tokens=1000.0 * number)(content)

    federation = Federation(
        tmp_path,
        LightChain(),
        settings_of(),
        behaviours={
            "east": varied,
            "north": lambda c, n, s: None if n == 1 else Error(0, "no disk") if n == 2 else c,
            "south": lambda c, n, s: declining(c, n, s) if n == 2 else reporting(tokens=10.0)(c),
            "west": lambda c, n, s: s({}) if n == 3 else reporting(effort=33.0, tokens=5.0)(c),
        },
        attestors=TWO,
    ).run()
    summary = summary_of(federation)
    organizations = summary["organizations"]
    assert did(summary, "east") == ["low", "mid", "high"]
    assert did(summary, "north") == ["late", "failed", "trained"]
    assert did(summary, "south") == ["trained", "declined", "trained"]
    assert did(summary, "west") == ["trained", "trained", "rejected"]
    assert [e["effort"] for e in organizations["east"]["rounds"]] == [25, 50, 100]
    for name in ("north", "south", "west"):
        assert {entry["effort"] for entry in organizations[name]["rounds"]} == {None}
    assert [e["tokens"] for e in organizations["south"]["rounds"]] == [10, 0, 10]
    totals = {name: (entry["tokens"], entry["spent_gwei"]) for name, entry in organizations.items()}
    assert totals == {"east": (6000, 18_000), "north": (0, 0), "south": (20, 140), "west": (10, 30)}
    for entry in organizations.values():
        assert [item["round"] for item in entry["rounds"]] == [1, 2, 3]
        earned = [item["earned_gwei"] for item in entry["rounds"]]
        # Each is rounded down to whole gwei, and so is their sum.
        assert 0 <= entry["reward_gwei"] - sum(earned) <= 3
        for item in entry["rounds"]:
            assert item["did"] in ("low", "mid", "high", "trained") or item["earned_gwei"] == 0
    assert sum(entry["reward_gwei"] for entry in organizations.values()) > 0
    assert json.loads(json.dumps(summary)) == summary


def test_a_round_that_nobody_attested_earned_nothing_that_is_known(tmp_path):
    federation = Federation(tmp_path, LightChain(), settings_of()).run()
    for entry in summary_of(federation)["organizations"].values():
        assert [item["earned_gwei"] for item in entry["rounds"]] == [None, None, None]


def test_a_round_that_was_attested_too_late_for_any_later_one_to_seal_it_earned_nothing(tmp_path):
    federation = Federation(tmp_path, LightChain(), settings_of()).run()
    attest(federation, 1)
    for entry in summary_of(federation)["organizations"].values():
        assert [item["earned_gwei"] for item in entry["rounds"]] == [0, None, None]


@pytest.mark.parametrize("minimum", [3, 2])
def test_one_whose_update_holds_has_trained_whether_or_not_the_round_counts(tmp_path, minimum):
    behaviours = dict.fromkeys(("east", "north"), declining)
    behaviours["south"] = reporting(effort=25.0, tokens=8.0)
    settings = settings_of(min_organizations=minimum)
    summary = summary_of(Federation(tmp_path, LightChain(), settings, behaviours).run())
    assert did(summary, "south") == ["low"] * 3
    assert summary["organizations"]["south"]["tokens"] == 24
    assert did(summary, "east") == ["declined"] * 3


@pytest.mark.parametrize("figures", [{"tokens": -5.0, "effort": -25.0}, {"tokens": 0.5}, {}])
def test_figures_that_cannot_be_are_not_counted(tmp_path, figures):
    behaviours = {"east": reporting(**figures)}
    summary = summary_of(Federation(tmp_path, LightChain(), settings_of(), behaviours).run())
    entry = summary["organizations"]["east"]
    assert (entry["tokens"], entry["spent_gwei"]) == (0, 0)
    assert did(summary, "east") == ["trained"] * 3


def test_a_round_without_a_seal_is_no_crash_and_costs_no_gas(tmp_path):
    # One that was open when a dispute left it behind is voided: it has no seal.
    federation = Federation(tmp_path, LightChain(), settings_of()).run()
    (federation.archive.round_folder(2) / "seal.json").unlink()
    summary = summary_of(federation)
    assert [seal["round"] for seal in summary["chain"]["seals"]] == [1, 3]
    assert did(summary, "east") == ["trained"] * 3
