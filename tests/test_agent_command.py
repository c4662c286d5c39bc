"""`foedus agent`: what it prints, what it refuses, and how it ends."""

import io
import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from blockchain.private.agent_records import AgentDecision
from client_app.agent.action_space import ActionSpace
from client_app.agent.agent_start import agent_start
from client_app.agent.own_agent import AGENT_FILE, OwnAgent
from client_app.agent.replay import Brought
from client_app.agent.situation import Situation
from client_app.ledger_opening import open_ledger
from strategies.home import organization_folder
from strategies.run_archive import RunArchive
from tests.foedus_command import foedus
from tests.signing_cases import NAMES, account_of
from tests.small_federation import small_settings
from tests.travelling_chain import store_key

__all__ = ["foedus"]

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

EAST = NAMES[0]
TASK = b"\x03" * 32


@pytest.fixture(scope="module")
def founded(tmp_path_factory, travelling):
    """A home whose first organization has decided about four rounds, and learned from three."""
    home = tmp_path_factory.mktemp("home")
    settings = small_settings(chain_url=str(travelling.settings.rpc_url), home=str(home))
    RunArchive(home / "runs" / "treaty").write_run({"settings": settings.to_run_config()})
    travelling.home(home, EAST)
    store_key(home / "organizations" / EAST / "keys", "officer", account_of("officer").key)
    space = ActionSpace(settings.effort)
    start = agent_start(space, seed=7, organization=EAST)
    with open_ledger(home, EAST, account_of(EAST), travelling.chain) as ledger:
        agent = OwnAgent(organization_folder(home, EAST), ledger, space, start)
        for number in (1, 2, 3, 4):
            situation = Situation(
                round=number,
                rounds=6,
                budget=0,
                spent=0,
                outcomes=[],
                last_action=0,
                costs=(0, 1000, 2000, 4000),
            )
            agent.decide(TASK, situation, price=10**10, mode="learn")
        agent.settle(lambda _: Brought(5 * 10**13, failed=False))
    return home


@pytest.fixture
def home(founded, tmp_path, monkeypatch):
    """A copy of it."""
    copy = shutil.copytree(founded, tmp_path / "home")
    monkeypatch.setenv("FOEDUS_HOME", str(copy))
    return copy


def test_show_gives_every_decision_with_what_it_brought(foedus, home):
    status, out, err = foedus("agent", "show", "--json")
    assert status == 0, err
    decisions = json.loads(out)["decisions"]
    assert [one["round"] for one in decisions] == [1, 2, 3, 4]
    for one in decisions[:3]:
        joined = one["action"] != "skip"
        assert one["paid_wei"] == (str(5 * 10**13) if joined else "0")
        earned = 5 * 10**4 if joined else 0
        assert one["reward"] == pytest.approx((earned - one["cost_gwei"]) / 40_000)
    # It waits for the next decision, which it is valued by.
    assert decisions[3]["reward"] is None
    status, out, _ = foedus("agent", "show", "--last", "2")
    assert status == 0
    assert "the last 2 decisions" in out
    assert "waiting" in out


def test_verify_makes_the_agent_again_and_names_what_differs(foedus, home):
    status, out, _ = foedus("agent", "verify")
    assert status == 0
    assert "7 records replayed, the agent is what they make" in out
    path = organization_folder(home, EAST) / AGENT_FILE
    arrays = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays["tables"] = np.nextafter(arrays["tables"], 9)
    save_file(arrays, path, metadata=metadata)
    status, out, _ = foedus("agent", "verify", "--json")
    assert status == 1
    report = json.loads(out)
    assert report["holds"] is False
    assert report["wrong"] == ["its tables: another than its ledger makes"]


def test_reset_asks_first_and_the_next_decision_says_what_the_new_agent_began_with(
    foedus, home, travelling, monkeypatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    path = organization_folder(home, EAST) / AGENT_FILE
    before = path.read_bytes()
    status, _, _ = foedus("agent", "reset")
    assert status != 0
    assert path.read_bytes() == before
    status, out, err = foedus("agent", "reset", "--yes")
    assert status == 0, err
    assert "has a new agent" in out
    settings = small_settings(home=str(home))
    space = ActionSpace(settings.effort)
    with open_ledger(home, EAST, account_of(EAST), travelling.chain) as ledger:
        start = agent_start(space, seed=1, organization=EAST)
        agent = OwnAgent(organization_folder(home, EAST), ledger, space, start)
        assert agent.state.open == []
        situation = Situation(1, 6, 0, 0, [], 0, (0, 1, 2, 4))
        decision = agent.decide(b"\x04" * 32, situation, price=10**10, mode="learn")
        opened = ledger.read(decision.record, "test")
        assert isinstance(opened.payload, AgentDecision)
        assert opened.payload.founding is not None
    status, out, _ = foedus("agent", "verify")
    assert status == 0, out


def test_learn_with_no_chain_says_so_in_one_line(foedus, home):
    path = home / "runs" / "treaty" / "run.json"
    run = json.loads(path.read_text())
    run["settings"]["chain-url"] = "http://127.0.0.1:9"
    path.write_text(json.dumps(run))
    status, _, err = foedus("agent", "learn")
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert "no Ethereum node answers" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("show", "--org", "nobody"), "nobody"), (("show", "--last", "0"), "--last")],
)
def test_what_makes_no_sense_ends_with_status_2(foedus, home, arguments, said):
    status, _, err = foedus("agent", *arguments)
    assert status == 2
    assert said in err
