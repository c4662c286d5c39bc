"""Requests to forget, carried out by replay: every bit is as if the data had never been there."""

import json

import pytest

from blockchain.managed_node import ManagedNode
from blockchain.unlearning_messages import Guarantee, RequestState
from client_app.own_data import load_own_data
from client_app.receipt_check import check_receipt
from llm.draw import draw
from server_app.unlearning import standing_runs, unlearn
from strategies.audit import audit
from strategies.home import cache_folder
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings
from tests.chain_samples import free_port
from tests.flower_messages import flower_task
from tests.foedus_command import foedus
from tests.tiny_model import build_tiny_model
from tests.whole_federation import DirectGrid, federation_settings, run_federation, write_data
from unlearning.receipt import read_receipt

__all__ = ["flower_task", "foedus"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("flower_task"),
]

ORGANIZATIONS = ("east", "north", "south")
ROUNDS = 3


class Home:
    """A home with one run in it, its chain, and what is asked of it."""

    def __init__(self, settings, foedus):
        self.settings = settings
        self._foedus = foedus
        self.first = run_federation(settings)

    @property
    def now(self):
        """The run that stands."""
        [archive] = standing_runs(self.settings.home_path)
        return archive

    @property
    def chain(self):
        return open_reading_chain(self.settings)

    def foedus(self, *arguments):
        return self._foedus(*arguments, "--home", str(self.settings.home_path))

    def ask(self, *arguments):
        status, out, err = self.foedus("unlearn", *arguments, "--json")
        assert status == 0, err
        return bytes.fromhex(json.loads(out)["id"].removeprefix("0x"))

    def carry_out(self, passes=lambda _: True):
        order = RunSettings(home=str(self.settings.home_path), mode="unlearn")
        grid = DirectGrid(order, passes)
        unlearn(order, grid)
        return grid

    def state(self, request):
        return self.chain.unlearning.request_of(request).state

    def receipt(self, request):
        [path] = self.settings.home_path.glob(f"runs/*/receipts/{request.hex()}.json")
        return read_receipt(path.read_bytes())

    def states(self):
        """Hash of the state after every logical round of the run that stands."""
        return states(self.settings.home_path, self.now)

    def failed(self, archive):
        return [check for check in audit(archive, self.chain) if not check.holds]


def states(home, archive):
    kept = RunSettings.from_run_config(archive.read_settings()).kept_rounds
    found = {}
    for number in range(1, ROUNDS + 1):
        of, own = archive, number - kept.after
        if number <= kept.after:
            task, own = kept.place_of(number)
            [of] = [one for one in runs(home) if one.read_run()["task"] == task.hex()]
        found[number] = of.manifest(own)["state"]
    return found


def runs(home):
    from strategies.run_archive import RunArchive

    return [RunArchive(path.parent) for path in (home / "runs").glob("*/run.json")]


def draws(settings, organization):
    """The ids drawn in each round."""
    rows = load_own_data(settings, organization, cache_folder(settings.home_path)).train
    return {
        number: {
            record.id for record in draw(rows, 16, seed=42, round=number, organization=organization)
        }
        for number in range(1, ROUNDS + 1)
    }, {record.id for record in rows}


def drawn_first_in(settings, organization, number):
    """The first id, in order, that was drawn in a round and in none before it."""
    drawn, _ = draws(settings, organization)
    before = set().union(*(drawn[n] for n in range(1, number)))
    return min(drawn[number] - before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def home(model, tmp_path, foedus, request):
    """A home whose organizations take part always, or as their agents decide."""
    data = write_data(tmp_path / "data")
    settings = federation_settings(
        tmp_path / "home",
        model,
        data,
        chain_port=free_port(),
        participation=getattr(request, "param", "always"),
    )
    try:
        yield Home(settings, foedus)
    finally:
        ManagedNode(settings.home_path).stop()


def never_there(home, model, tmp_path, without, **changes):
    """The states of another run, in a home of its own, whose data never held some records."""
    data = write_data(tmp_path / "data-without", without)
    settings = federation_settings(
        tmp_path / "without",
        model,
        data,
        chain_port=free_port(),
        participation=home.settings.participation,
        public_validation=home.settings.public_validation,
        **changes,
    )
    try:
        return states(settings.home_path, run_federation(settings))
    finally:
        ManagedNode(settings.home_path).stop()


def without(organization):
    """Messages to an organization's training do not get there."""

    def passes(message):
        header = message.content.config_records["header"]
        return (message.metadata.message_type, header.get("organization")) != (
            "train",
            organization,
        )

    return passes


def test_records_forgotten_one_after_the_other_are_as_if_they_had_never_been_there(
    home, model, tmp_path
):
    settings, before = home.settings, home.states()
    late = drawn_first_in(settings, "east", 3)
    middle = drawn_first_in(settings, "north", 2)
    early = drawn_first_in(settings, "east", 1)
    other = drawn_first_in(settings, "south", 2)
    drawn, everything = draws(settings, "east")
    unused = min(everything - set().union(*drawn.values()))

    # What no round drew is barred with a receipt, and nothing is made again.
    request = home.ask("--org", "east", "--records", unused)
    home.carry_out()
    stored = home.chain.unlearning.request_of(request)
    assert stored.completion.guarantee is Guarantee.NOTHING_TO_FORGET
    assert (home.now.name, home.states()) == (home.first.name, before)
    assert home.receipt(request).evidence.label == "NOTHING_TO_FORGET"
    assert home.carry_out().delivered == []

    # The last round alone; first without one that took part in it, which is refused.
    request = home.ask("--org", "east", "--records", late)
    home.carry_out(without("north"))
    assert home.state(request) is RequestState.OPEN
    [said] = settings.home_path.glob(f"runs/*/requests/{request.hex()}.json")
    assert "north (late) took part in it" in said.read_text()
    assert states(settings.home_path, home.first) == before
    assert home.failed(home.first) == []
    home.carry_out()
    assert home.state(request) is RequestState.COMPLETED
    after = home.states()
    assert [number for number in before if before[number] != after[number]] == [3]
    assert home.receipt(request).evidence.rounds == [3]

    # A round in the middle, then two requests at once, one of them back to the first round.
    request = home.ask("--org", "north", "--records", middle)
    home.carry_out()
    assert home.now.name == "treaty-unlearned-2"
    assert [number for number in after if after[number] != home.states()[number]] == [2, 3]
    both = [
        home.ask("--org", "east", "--records", early),
        home.ask("--org", "south", "--records", other),
    ]
    home.carry_out()
    assert [home.state(one) for one in both] == [RequestState.COMPLETED] * 2
    left_out = {"east": [unused, late, early], "north": [middle], "south": [other]}
    assert home.states() == never_there(home, model, tmp_path, left_out)

    for one in (request, *both):
        receipt = home.receipt(one)
        check_receipt(receipt, home.chain)
        assert receipt.evidence.label == "EXACT_REPLAY"
        assert receipt.evidence.reference == "none trained"
    status, out, err = home.foedus("receipt", request.hex()[:12], "--json")
    assert status == 0, err
    assert (
        "the commitment is to 1 records of north, as its ledger says" in json.loads(out)["checked"]
    )
    # What was replaced is deleted, and the audit says by whose request; what stands holds.
    for archive in runs(settings.home_path):
        assert home.failed(archive) == []
    checks = [check.name for check in audit(home.first, home.chain)]
    assert any(name.startswith("purged by request 0x") for name in checks)
    assert list((home.first.folder / "updates").iterdir()) == []


@pytest.mark.parametrize("home", ["learn"], indirect=True)
def test_agents_decide_as_if_records_and_then_an_organization_had_never_been_there(
    home, model, tmp_path
):
    record = drawn_first_in(home.settings, "east", 2)
    home.ask("--org", "east", "--records", record)
    home.carry_out()
    for name in ORGANIZATIONS:
        status, out, err = home.foedus("agent", "verify", "--org", name)
        assert status == 0, out + err
    request = home.ask("--org", "south", "--withdraw", "--yes")
    home.carry_out()
    assert home.state(request) is RequestState.COMPLETED
    check_receipt(home.receipt(request), home.chain)
    expected = never_there(home, model, tmp_path, {"east": [record]}, organizations="east,north")
    assert home.states() == expected
    for archive in runs(home.settings.home_path):
        assert home.failed(archive) == []
