"""`foedus privacy`: what was spent, added up from a real private ledger."""

import json

import pytest

from blockchain.canonical import hash_arrays
from client_app.ledger_opening import open_ledger
from client_app.organization import Organization
from client_app.privacy_spent import privacy_spent
from strategies.privacy import noise_multiplier, spent_epsilon
from strategies.run_archive import RunArchive
from tests.foedus_command import foedus
from tests.organization_cases import Coordinator, tiny_settings, write_reviews
from tests.signing_cases import account_of
from tests.tiny_model import build_tiny_model

__all__ = ["foedus"]

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

ACCOUNT = account_of("east")
DELTA = 1e-5


@pytest.fixture(scope="module")
def settings(tmp_path_factory, travelling):
    home = tmp_path_factory.mktemp("home")
    travelling.home(home, "east")
    made = tiny_settings(
        home,
        build_tiny_model(tmp_path_factory.mktemp("model")),
        write_reviews(home / "east.jsonl"),
        organizations="east",
        chain_url=str(travelling.settings.rpc_url),
        privacy_epsilon=4.0,
        rounds=3,
    )
    RunArchive(home / "runs" / "treaty").write_run({"settings": made.to_run_config()})
    return made


def trained(settings, travelling):
    """Have the organization train in the first round of a new task."""
    coordinator = Coordinator(settings, travelling.chain)
    travelling.chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    east = Organization("east", settings, travelling.chain, ACCOUNT)
    east.train(coordinator.message(organization="east"))


def spent_in(settings, travelling):
    with open_ledger(settings.home_path, "east", ACCOUNT, travelling.chain) as ledger:
        return privacy_spent(ledger, DELTA)


@pytest.fixture(scope="module")
def private(settings, travelling):
    """What a round in each of two runs has spent."""
    trained(settings, travelling)
    trained(settings.model_copy(update={"seed": 8}), travelling)
    return spent_in(settings, travelling)


def test_every_round_counts_for_every_record(private):
    noise = noise_multiplier(4.0, DELTA, 3)
    assert private.epsilon == spent_epsilon([(noise, 2)], DELTA)
    assert 0 < private.epsilon < 4.0
    assert (private.rounds, private.unprotected, private.unreadable) == (2, 0, 0)


def test_the_command_says_it_and_states_it_for_another_delta(private, settings, foedus):
    spent = private
    at = ["--home", str(settings.home_path)]
    status, said, errors = foedus("privacy", "--json", *at)
    assert status == 0, errors
    found = json.loads(said)
    assert (found["epsilon"], found["bounded"]) == (pytest.approx(spent.epsilon), True)
    status, said, _ = foedus("privacy", "--delta", "1e-9", "--json", *at)
    assert status == 0
    assert json.loads(said)["epsilon"] > spent.epsilon
    status, said, _ = foedus("privacy", *at)
    assert f"epsilon {spent.epsilon:.3f} at delta 1e-05 for any one record" in said


def test_one_round_without_noise_leaves_no_bound(private, settings, travelling, foedus):
    bare = settings.model_copy(update={"privacy_epsilon": 0.0})
    trained(bare, travelling)
    spent = spent_in(settings, travelling)
    assert (spent.rounds, spent.unprotected) == (3, 1)
    status, said, _ = foedus("privacy", "--home", str(settings.home_path))
    assert status == 0
    assert "no bound: 1 of them without noise" in said
