"""`foedus unlearn`: what it asks, what it refuses, and how it ends."""

import io
import json
import shutil

import pytest
import typer

from blockchain.errors import ChainError
from blockchain.private import data_sets
from blockchain.unlearning_messages import RequestState, UnlearningScope
from blockchain.unlearning_requests import UnlearningRequests
from client_app.cli import unlearn
from client_app.ledger_opening import open_ledger
from strategies.home import ledger_folder
from strategies.run_archive import RunArchive
from tests.chain_samples import fresh_task
from tests.foedus_command import foedus
from tests.signing_cases import NAMES, account_of
from tests.small_federation import small_settings
from tests.travelling_chain import store_key

__all__ = ["foedus"]

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

IDS = sorted(f"review-{number}" for number in range(6))
DAY = 86_400


@pytest.fixture(scope="module")
def task(travelling):
    return fresh_task(travelling.chain)


@pytest.fixture(scope="module")
def founded(tmp_path_factory, travelling, task):
    """A home with a run on the chain, and ledgers with a training set each."""
    home = tmp_path_factory.mktemp("home")
    settings = small_settings(chain_url=str(travelling.settings.rpc_url), home=str(home))
    run = {"settings": settings.to_run_config(), "task": task.hex()}
    RunArchive(home / "runs" / "treaty").write_run(run)
    travelling.home(home, *NAMES[:2])
    for name in NAMES[:2]:
        store_key(home / "organizations" / name / "keys", "officer", account_of("officer").key)
        with open_ledger(home, name, account_of(name), travelling.chain) as ledger:
            data_sets.commit(ledger, "reviews", {one: bytes(32) for one in IDS})
    return home


@pytest.fixture
def both(founded, tmp_path, monkeypatch):
    """A copy of it."""
    copy = shutil.copytree(founded, tmp_path / "home")
    monkeypatch.setenv("FOEDUS_HOME", str(copy))
    return copy


@pytest.fixture
def home(both):
    """A copy in which only the ledger of `east` lies."""
    shutil.rmtree(ledger_folder(both, "north"))
    return both


@pytest.fixture
def untouched(founded, monkeypatch):
    """The home itself, for what changes nothing."""
    monkeypatch.setenv("FOEDUS_HOME", str(founded))
    return founded


@pytest.fixture
def asked(foedus):
    """Ask, and return what is printed as JSON."""

    def ask(*arguments):
        status, out, err = foedus("unlearn", *arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return ask


def barred(home, travelling):
    with open_ledger(home, "east", account_of("east"), travelling.chain) as ledger:
        return data_sets.barred(ledger, IDS)


def stored(travelling, line):
    return travelling.chain.unlearning.request_of(bytes.fromhex(line["id"][2:]))


def test_records_are_asked_about_and_the_request_stands_on_the_chain(asked, home, travelling, task):
    now = travelling.chain.now()
    line = asked("--org", "east", "--records", "review-1, review-4", "--method", "exact")
    found = stored(travelling, line)
    assert line == {
        "id": f"0x{found.request.id.hex()}",
        "organization": "east",
        "task": f"0x{task.hex()}",
        "scope": "records",
        "method": "exact",
        "records": 2,
        "deadline": found.request.deadline,
        "state": "open",
    }
    assert found.state is RequestState.OPEN
    assert found.request.scope is UnlearningScope.RECORDS
    assert now + 30 * DAY <= line["deadline"] <= now + 30 * DAY + 60
    assert barred(home, travelling) == {"review-1", "review-4"}
    [shown] = asked("status")["requests"]
    assert shown.items() >= line.items()
    assert shown["in_words"].startswith("open, 29 days ")
    assert not shown["brought_now"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--withdraw", "--yes", "--then-exact"], "--then-exact goes with --method fast"),
        (["--records", "review-0", "--then-exact"], "--then-exact goes with --method fast"),
    ],
)
def test_what_no_run_can_carry_out_is_not_asked_for(foedus, home, travelling, arguments, said):
    status, out, err = foedus("unlearn", *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert "review-0" not in barred(home, travelling)


def test_the_exact_way_can_be_asked_for_behind_the_fast_one(asked, foedus, home, travelling):
    line = asked("--records", "review-0", "--method", "fast", "--then-exact")
    methods = {one["id"]: one["method"] for one in asked("status")["requests"]}
    assert methods == {line["id"]: "fast", line["then"]: "exact"}
    for one in methods:
        state = travelling.chain.unlearning.request_of(bytes.fromhex(one[2:])).state
        assert state is RequestState.OPEN
    # A third one would be one too many.
    status, _, err = foedus("unlearn", "--records", "review-0")
    assert (status, "forgotten already: 'review-0'" in err) == (1, True)


def test_what_is_printed_for_people_says_until_when_and_why_not_again(foedus, home):
    status, out, err = foedus("unlearn", "--records", "review-2", "--deadline-days", "7")
    assert status == 0, err
    assert "request 0x" in out
    assert "east: 1 records to be forgotten (exact) until 2" in out
    status, out, _ = foedus("unlearn", "status", "--org", "east")
    assert status == 0
    # A narrow terminal breaks the line.
    assert "open, 6 days 23 hours left" in " ".join(out.split())
    status, out, err = foedus("unlearn", "--records", "review-2")
    assert (status, out) == (1, "")
    assert err.startswith("foedus: forgotten already: 'review-2', by request 0x")


def test_a_file_of_ids_is_taken_as_lines_or_as_the_ledger_prints_it(
    foedus, asked, home, tmp_path, travelling
):
    lines, printed = tmp_path / "ids.txt", tmp_path / "ids.json"
    lines.write_text("review-3\n\n  review-5 \n", encoding="utf-8")
    assert asked("--records-file", str(lines))["records"] == 2
    status, out, _ = foedus("ledger", "show", "--org", "east", "--records", "2", "--json")
    assert status == 0
    printed.write_text(out, encoding="utf-8")
    assert asked("--records-file", str(printed))["records"] == 2
    assert barred(home, travelling) == {"review-3", "review-5", *json.loads(out)["records"]}


def test_a_withdrawal_is_asked_about_first(foedus, asked, home, travelling, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, out, err = foedus("unlearn", "--org", "east", "--withdraw")
    assert (status, out) == (1, "")
    assert "all data of east" in err
    status, _, err = foedus("unlearn", "--withdraw", "--json")
    assert status == 2
    assert "--json does not ask" in err
    assert barred(home, travelling) == set()
    line = asked("--withdraw", "--yes")
    assert (line["scope"], line["records"]) == ("organization", len(IDS))
    assert barred(home, travelling) == set(IDS)
    status, out, err = foedus("unlearn", "--withdraw", "--yes")
    assert status == 1
    assert err.startswith("foedus: all data of east is to be forgotten already, by request 0x")
    assert len(err.strip().splitlines()) == 1


def test_a_request_that_the_chain_did_not_take_is_brought_by_asking_how_it_stands(
    foedus, asked, home, travelling, monkeypatch
):
    def refuse(*_):
        raise ChainError("no answer")

    with monkeypatch.context() as gone:
        gone.setattr(UnlearningRequests, "ask", refuse)
        status, out, err = foedus("unlearn", "--records", "review-0")
        assert (status, out) == (1, "")
        assert "not brought to the chain: no answer" in err
        assert len(err.strip().splitlines()) == 1
        # Shown also where it cannot be brought now.
        status, out, err = foedus("unlearn", "status", "--json")
        assert status == 1
        assert "no answer" in err
        found = json.loads(out)
        assert [line["state"] for line in found["requests"]] == ["waiting"]
        assert len(found["problems"]) == 1
    assert barred(home, travelling) == {"review-0"}
    [brought] = asked("status")["requests"]
    assert (brought["state"], brought["brought_now"]) == ("open", True)
    assert stored(travelling, brought).state is RequestState.OPEN
    [again] = asked("status")["requests"]
    assert (again["id"], again["brought_now"]) == (brought["id"], False)


def test_all_organizations_here_are_shown_unless_one_is_named(foedus, asked, both):
    status, out, _ = foedus("unlearn", "status")
    assert status == 0
    assert out.strip() == "east, north: nothing was asked to be forgotten"
    for name in ("north", "east"):
        asked("--org", name, "--records", "review-1")
    shown = asked("status")["requests"]
    assert [line["organization"] for line in shown] == ["east", "north"]
    [line] = asked("status", "--org", "north")["requests"]
    assert line == {**shown[1], "in_words": line["in_words"]}


def test_it_is_carried_out_at_once_where_that_is_wanted_and_what_came_of_it_is_said(
    asked, foedus, home, monkeypatch
):
    submitted = []
    monkeypatch.setattr(unlearn, "submit", submitted.append)
    asked("--records", "review-1")
    assert not submitted
    status, out, err = foedus("unlearn", "--records", "review-2", "--submit", "--json")
    [settings] = submitted
    assert settings.home_path == home
    # Nothing was submitted to, so that it is open still, and the command does not say it holds.
    assert (status, json.loads(out)["records"]) == (1, 1)
    assert f"request {json.loads(out)['id'][:12]}…: open, 29 days" in " ".join(err.split())


def test_why_a_request_was_left_open_is_said_beside_its_state(asked, home):
    line = asked("--records", "review-1")
    folder = home / "runs" / "treaty" / "requests"
    folder.mkdir(parents=True)
    (folder / f"{line['id'][2:]}.json").write_text('{"reason": "north (late) took part in it"}')
    [shown] = asked("status")["requests"]
    assert shown["in_words"].endswith("; not carried out: north (late) took part in it")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one of --records IDS, --records-file FILE and --withdraw"),
        (("--withdraw", "--records", "review-1"), "give one of"),
        (("--records", "review-1", "--records-file", "ids"), "give one of"),
        (("--records", "review-1"), "ledgers under "),
        (("--org", "nobody", "--records", "review-1"), "there is no ledger of 'nobody'"),
        (("--org", "east", "--run", "none", "--records", "review-1"), "there is no run 'none'"),
        (
            ("--org", "east", "--records", "review-1,elsewhere"),
            "no record 'elsewhere' of the training set",
        ),
        (("--org", "east", "--records", "review-1,review-1"), "named twice: 'review-1'"),
        # Nothing named is not everything.
        (("--org", "east", "--records", " , "), "no record is named"),
        (
            ("--org", "east", "--records-file", "/nowhere/ids"),
            "/nowhere/ids: No such file",
        ),
        (("--records", "review-1", "--method", "slow"), "--method"),
        (("--records", "review-1", "--deadline-days", "0"), "--deadline-days"),
        (("--org", "east", "status"), "give --org after status"),
        (("status", "--org", "nobody"), "there is no ledger of 'nobody'"),
    ],
)
def test_what_makes_no_sense_ends_with_status_2(foedus, untouched, travelling, arguments, said):
    height = travelling.chain.height()
    status, _, err = foedus("unlearn", *arguments)
    assert (status, travelling.chain.height()) == (2, height)
    assert said in err
    assert barred(untouched, travelling) == set()


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"ids": []}', b'{"records": "review-1"}', b'{"records": [1]}', b"\xff", b"", b"[" * 9],
)
def test_a_file_that_names_no_records_ends_with_status_2(foedus, untouched, tmp_path, content):
    file = tmp_path / "ids"
    file.write_bytes(content)
    status, _, err = foedus("unlearn", "--org", "east", "--records-file", str(file))
    assert status == 2
    assert len(err.strip().splitlines()) == 1


def test_an_organization_that_takes_no_part_in_the_run_cannot_ask(foedus, home):
    path = home / "runs" / "treaty" / "run.json"
    run = json.loads(path.read_text())
    run["settings"]["organizations"] = "north,south,west"
    path.write_text(json.dumps(run))
    status, _, err = foedus("unlearn", "--org", "east", "--records", "review-1")
    assert status == 2
    assert "'east' takes no part in run treaty" in err


def test_help_has_examples(foedus):
    assert "foedus unlearn --org shop --records review-7,review-9" in foedus("unlearn", "--help")[1]
    status, out, _ = foedus("unlearn", "status", "--help")
    assert status == 0
    assert "Example: foedus unlearn status --org shop" in out


def test_on_an_organizations_own_machine_a_run_is_named_by_how_its_tasks_id_begins(capsys):
    tasks = [bytes.fromhex(start + "00" * 31) for start in ("a4", "ae", "e8")]
    assert unlearn._beginning_with("0xE8", tasks) == tasks[2]
    assert unlearn._beginning_with(f"0x{tasks[0].hex()}", tasks) == tasks[0]
    for unclear in ("0xa", "0x", "0xb", "e8", "treaty"):
        with pytest.raises(typer.Exit) as refused:
            unlearn._beginning_with(unclear, tasks)
        assert refused.value.exit_code == 2
        assert f"of 0x{tasks[0].hex()}, 0x{tasks[1].hex()}, 0x" in capsys.readouterr().err
