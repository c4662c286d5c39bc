"""Requests to forget, carried out by replay: every bit is as if the data had never been there."""

import json
from contextlib import nullcontext

import pytest

from blockchain.managed_node import ManagedNode
from blockchain.unlearning_messages import Guarantee, RequestState
from client_app import own_data
from client_app.own_data import load_own_data
from client_app.receipt_check import check_receipt
from llm.draw import draw
from server_app.replay_check import ReplayDiffersError, replay
from server_app.unlearning import standing_runs, unlearn
from strategies import protocol
from strategies.audit import audit
from strategies.home import cache_folder
from strategies.run_archive import read_json
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings, SettingsError
from tests.chain_samples import free_port
from tests.flower_messages import flower_task
from tests.foedus_command import foedus
from tests.real_model import application_cache
from tests.tiny_model import build_tiny_model
from tests.whole_federation import DirectGrid, federation_settings, run_federation, write_data
from unlearning.receipt import read_receipt

__all__ = ["flower_task", "foedus"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("flower_task"),
]


class Home:
    """A home with one run in it, its chain, and what is asked of it."""

    def __init__(self, settings, foedus):
        self.settings = settings
        self._foedus = foedus

    def train(self, passes=lambda _: True):
        self.first = run_federation(self.settings, passes)
        return self

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

    def replay(self, run, passes=lambda _: True, *, differs=False):
        """Have a run's rounds made once more; what came of it."""
        order = RunSettings(home=str(self.settings.home_path), mode="replay", run_name=run)
        grid = DirectGrid(order, passes)
        with pytest.raises(ReplayDiffersError) if differs else nullcontext():
            replay(order, grid)
        return read_json(self.settings.home_path / "runs" / run / "replayed.json"), grid

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
    settings = RunSettings.from_run_config(archive.read_settings())
    kept, found = settings.kept_rounds, {}
    for number in range(1, settings.rounds + 1):
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
    """The ids drawn in each round, and all that could have been."""
    rows = load_own_data(settings, organization, cache_folder(settings.home_path)).train
    count, seed = settings.records_per_round, settings.seed
    drawn = {
        number: draw(rows, count, seed=seed, round=number, organization=organization)
        for number in range(1, settings.rounds + 1)
    }
    ids = {number: {record.id for record in records} for number, records in drawn.items()}
    return ids, {record.id for record in rows}


def drawn_first_in(settings, organization, number):
    """The first id, in order, that was drawn in a round and in none before it."""
    drawn, _ = draws(settings, organization)
    before = set().union(*(drawn[n] for n in range(1, number)))
    return min(drawn[number] - before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


#: What a run of the embedded model on two organizations' few records takes.
REAL = {
    "quantization": "nf4",
    "rank": 8,
    "rounds": 2,
    "organizations": "east,north",
    "attestors": "east",
    "records_per_round": 6,
    "batch_size": 4,
    "validation_records": 0,
    "public_validation_records": 2,
}


@pytest.fixture
def home(model, tmp_path, foedus, request):
    """A home whose organizations take part always, or as their agents decide."""
    data = write_data(tmp_path / "data")
    settings = federation_settings(
        tmp_path / "home",
        model,
        data,
        chain_port=free_port(),
        **getattr(request, "param", {}),
    )
    try:
        yield Home(settings, foedus)
    finally:
        ManagedNode(settings.home_path).stop()


@pytest.fixture
def real_home(tmp_path, foedus, monkeypatch, request):
    """A home of the embedded model, with the application's cache."""
    monkeypatch.setenv("FOEDUS_CACHE", str(application_cache()))
    data = write_data(tmp_path / "data", rows=24)
    settings = federation_settings(
        tmp_path / "home",
        "embedded",
        data,
        chain_port=free_port(),
        **{**REAL, **getattr(request, "param", {})},
    )
    try:
        yield Home(settings, foedus)
    finally:
        ManagedNode(settings.home_path).stop()


def never_there(home, model, tmp_path, without, rows=60, **changes):
    """The states of another run, in a home of its own, whose data never held some records."""
    data = write_data(tmp_path / "data-without", without, rows=rows)
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


class Killed(BaseException):
    """Stands for a coordinator that is killed."""


def dying_at(kind, nth):
    """The coordinator is killed as it sends so many-th message of a kind."""
    seen = []

    def passes(message):
        if message.metadata.message_type == kind:
            seen.append(message)
            if len(seen) == nth:
                raise Killed
        return True

    return passes


def killed_at_every_step(home, request):
    """Carry a request out, killed and taken up again: nothing is done twice, and nothing lost."""
    for kind, nth, then in (
        (protocol.TRAIN, 2, RequestState.OPEN),
        (protocol.VOUCH, 1, RequestState.OPEN),
        (protocol.VOUCH, 2, RequestState.OPEN),
        (protocol.FORGOTTEN, 1, RequestState.COMPLETED),
        (protocol.FORGOTTEN, 2, RequestState.COMPLETED),
    ):
        with pytest.raises(Killed):
            home.carry_out(dying_at(kind, nth))
        assert home.state(request) is then
    grid = home.carry_out()
    told = [m for m in grid.delivered if m.metadata.message_type == protocol.FORGOTTEN]
    assert [m.content.config_records["header"]["organization"] for m in told] == ["north", "south"]
    assert home.carry_out().delivered == []


def differences(found):
    return [line for one in found["rounds"] for line in one["differences"]]


def with_data_read_again(path, rows):
    """Write a data file; a process reads it once, here all messages come to one."""
    path.write_text(rows)
    own_data._whole.cache_clear()


def made_once_more(home, replaced):
    """The rounds of the run that stands are made once more; what does not come to the same says so.

    Nothing is changed by it, neither on the chain nor at the organizations.
    """
    settings, name = home.settings, home.now.name
    height = home.chain.height()
    found, grid = home.replay(name)
    assert (found["status"], differences(found)) == ("finished", [])
    assert [one["round"] for one in found["rounds"]] == [1, 2, 3]
    assert all(one["trained"] == ["east", "north"] for one in found["rounds"])
    asked = [m for m in grid.delivered if m.metadata.message_type == protocol.AGAIN]
    assert len(asked) == 6
    assert home.chain.height() == height

    # An organization that is not there, and one whose data is another by now.
    found, _ = home.replay(
        name,
        lambda m: (m.metadata.message_type, m.metadata.group_id) != (protocol.AGAIN, "2"),
        differs=True,
    )
    silent = [f"{who} did not say: no answer in time" for who in ("east", "north")]
    assert differences(found) == silent
    path = settings.home_path.parent / "data" / "east.jsonl"
    rows = path.read_text()
    with_data_read_again(path, rows.replace("film", "book"))
    found, _ = home.replay(name, differs=True)
    with_data_read_again(path, rows)
    said = differences(found)
    assert len(said) == 3
    assert all("east: it draws others than it trained on" in one for one in said)

    for run, why in (
        (replaced, f"were themselves replaced, by run '{name}'"),
        ("treaty", "made no rounds of another run again"),
        ("elsewhere", "there is no run 'elsewhere'"),
    ):
        with pytest.raises(SettingsError, match=why):
            replay(RunSettings(home=str(settings.home_path), mode="replay", run_name=run), grid)


def test_records_forgotten_one_after_the_other_are_as_if_they_had_never_been_there(
    home, model, tmp_path
):
    settings, before = home.settings, home.train().states()
    late = drawn_first_in(settings, "east", 3)
    middle = drawn_first_in(settings, "north", 2)
    early = drawn_first_in(settings, "east", 1)
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

    # A round in the middle, then two requests at once: back to the first round, and a whole
    # organization.
    request = home.ask("--org", "north", "--records", middle)
    killed_at_every_step(home, request)
    assert home.now.name == "treaty-unlearned-2"
    assert [number for number in after if after[number] != home.states()[number]] == [2, 3]
    both = [
        home.ask("--org", "east", "--records", early),
        home.ask("--org", "south", "--withdraw", "--yes"),
    ]
    home.carry_out()
    assert [home.state(one) for one in both] == [RequestState.COMPLETED] * 2
    left_out = {"east": [unused, late, early], "north": [middle]}
    expected = never_there(home, model, tmp_path, left_out, organizations="east,north")
    assert home.states() == expected

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
    made_once_more(home, replaced="treaty-unlearned-2")
    # What was replaced is deleted, and the audit says by whose request; what stands holds.
    for archive in runs(settings.home_path):
        assert home.failed(archive) == []
    checks = [check.name for check in audit(home.first, home.chain)]
    assert any(name.startswith("purged by request 0x") for name in checks)
    assert list((home.first.folder / "updates").iterdir()) == []


@pytest.mark.parametrize(
    "home",
    [{"participation": "learn", "organizations": "east,north", "attestors": "east"}],
    indirect=True,
    ids=["agents"],
)
def test_a_run_stops_for_a_request_and_agents_decide_as_if_the_record_had_never_been_there(
    home, model, tmp_path
):
    record, asked = drawn_first_in(home.settings, "east", 2), []

    def ask_in_round_two(message):
        """East has trained its second round, north is about to."""
        metadata, header = message.metadata, message.content.config_records["header"]
        second = (metadata.message_type, metadata.group_id) == ("train", "2")
        if second and header["organization"] == "north" and not asked:
            asked.append(home.ask("--org", "east", "--records", record))
        return True

    home.train(ask_in_round_two)
    assert home.state(asked[0]) is RequestState.COMPLETED
    run = home.first.read_run()
    assert (run["status"], run["by"]) == ("replaced", home.now.name)
    # Two rounds, and the one that says what the second has earned.
    assert (home.first.last_prepared_round(), home.now.read_run()["status"]) == (3, "finished")
    changes = {"organizations": "east,north", "attestors": "east"}
    assert home.states() == never_there(home, model, tmp_path, {"east": [record]}, **changes)
    found, _ = home.replay(home.now.name)
    assert (len(found["rounds"]), differences(found)) == (2, [])
    for name in ("east", "north"):
        status, out, err = home.foedus("agent", "verify", "--org", name)
        assert status == 0, out + err


def test_on_the_real_model_a_forgotten_record_is_as_if_it_had_never_been_there(real_home, tmp_path):
    record = drawn_first_in(real_home.settings, "east", 2)
    before = real_home.train().states()
    request = real_home.ask("--org", "east", "--records", record)
    real_home.carry_out()
    assert real_home.state(request) is RequestState.COMPLETED
    assert [n for n in before if before[n] != real_home.states()[n]] == [2]
    expected = never_there(real_home, "embedded", tmp_path, {"east": [record]}, rows=24, **REAL)
    assert real_home.states() == expected


@pytest.mark.long
@pytest.mark.parametrize("real_home", [{"rounds": 3}], indirect=True, ids=["three-rounds"])
@pytest.mark.parametrize("first_in", [1, 2, 3, None])
def test_on_the_real_model_so_is_one_of_whichever_round(real_home, tmp_path, first_in):
    settings = real_home.settings
    if first_in is None:
        drawn, everything = draws(settings, "east")
        record = min(everything - set().union(*drawn.values()))
    else:
        record = drawn_first_in(settings, "east", first_in)
    before = real_home.train().states()
    request = real_home.ask("--org", "east", "--records", record)
    real_home.carry_out()
    assert real_home.state(request) is RequestState.COMPLETED
    changed = [] if first_in is None else [n for n in before if n >= first_in]
    assert [n for n in before if before[n] != real_home.states()[n]] == changed
    expected = never_there(
        real_home, "embedded", tmp_path, {"east": [record]}, rows=24, **{**REAL, "rounds": 3}
    )
    assert real_home.states() == expected
    if changed:
        found, _ = real_home.replay(real_home.now.name)
        assert (len(found["rounds"]), differences(found)) == (len(changed), [])
