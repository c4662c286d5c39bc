"""`foedus ledger`: what it prints, what it refuses, and how it ends."""

import json
import shutil
import sqlite3

import pytest

from blockchain.private import data_sets
from blockchain.private.drafts import Draft
from blockchain.private.files import LEDGER_FILE
from blockchain.private.package import AnchoredRoot
from blockchain.private.package_making import make_package
from client_app.ledger_opening import open_ledger
from strategies.home import ledger_folder, organization_folder
from strategies.run_archive import RunArchive
from tests.foedus_command import foedus
from tests.ledger_cases import evidence, training_run
from tests.signing_cases import NAMES, account_of
from tests.small_federation import small_settings
from tests.travelling_chain import store_key

__all__ = ["foedus"]

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

IDS = [f"review-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def founded(tmp_path_factory, travelling):
    """A home that knows the chain by a run, with ledgers of which one record each is pending."""
    home = tmp_path_factory.mktemp("home")
    settings = small_settings(chain_url=str(travelling.settings.rpc_url), home=str(home))
    archive = RunArchive(home / "runs" / "treaty")
    archive.write_run({"settings": settings.to_run_config()})
    travelling.home(home, *NAMES)
    for name in NAMES:
        store_key(home / "organizations" / name / "keys", "officer", account_of("officer").key)
        with open_ledger(home, name, account_of(name), travelling.chain) as ledger:
            data_sets.commit(ledger, "reviews", {one: bytes(32) for one in IDS})
            ledger.append(Draft(payload=training_run(1, data_set=1, drawn=(2, 5))))
            ledger.append(Draft(payload=evidence()))
    return home


@pytest.fixture
def everybody(founded, tmp_path, monkeypatch):
    """A copy of it."""
    copy = shutil.copytree(founded, tmp_path / "home")
    monkeypatch.setenv("FOEDUS_HOME", str(copy))
    return copy


@pytest.fixture
def home(everybody):
    """A copy in which only the ledger of `east` lies, which no test anchors."""
    for name in NAMES[1:]:
        shutil.rmtree(ledger_folder(everybody, name))
    return everybody


def shown(foedus, *arguments):
    status, out, err = foedus("ledger", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_show_gives_figures_the_last_records_and_what_no_anchor_covers(foedus, home):
    found = shown(foedus, "show")
    assert (found["organization"], found["blocks"], found["records"]) == ("east", 4, 4)
    assert found["training_set"] == len(IDS)
    assert found["pending"] == [3]
    assert found["stretch"]["records"] == 4
    assert [line["type"] for line in found["last_records"]] == [
        "genesis",
        "data-set",
        "training-run",
        "unlearning-evidence",
    ]
    status, out, _ = foedus("ledger", "show", "--type", "training-run")
    assert status == 0
    assert "training-run" in out
    assert "genesis" not in out
    assert "not anchored yet: 4 records" in out
    assert "lacking endorsements: 3" in out


def test_show_tells_of_an_anchor_that_failed_until_it_is_made_good(foedus, home):
    kept = organization_folder(home, "east") / "tasks" / "ab" / "anchor.json"
    kept.parent.mkdir(parents=True)
    for failed_at, told in ((3, "no money"), (0, None), (None, None)):
        kept.write_text(json.dumps({"outcome": "no money", "failed_at": failed_at}))
        assert shown(foedus, "show")["anchor_failure"] == told
        status, _, err = foedus("ledger", "show")
        assert status == 0
        assert ("the last try to anchor failed: no money" in err) is (told is not None)


def test_show_names_records_of_the_training_set_those_trained_on_first(foedus, home):
    positions = {name: position for position, name in enumerate(sorted(IDS))}
    trained = [name for name in sorted(IDS) if positions[name] in (2, 5)]
    assert shown(foedus, "show", "--org", "east", "--records", "2") == {"records": trained}
    everything = shown(foedus, "show", "--org", "east", "--records", "100")["records"]
    assert sorted(everything) == sorted(IDS)


def test_opening_a_record_is_logged_and_the_log_is_shown(foedus, home):
    opened = shown(foedus, "show", "--record", "2")
    assert opened["payload"]["round"] == 1
    [read] = shown(foedus, "show", "--reads")["reads"]
    assert (read["records"], read["purpose"]) == ("2", "foedus ledger show")
    status, out, _ = foedus("ledger", "show", "--record", "2")
    assert status == 0
    assert "learning-rate 0.001" in out


def test_an_officer_reads_what_officers_may_and_nothing_else(foedus, home):
    status, _, err = foedus("ledger", "show", "--record", "2", "--member", "officer")
    assert status == 1
    assert "record 2 (training-run) can be read by: auditor, operator, trainer" in err
    assert shown(foedus, "show", "--record", "3", "--member", "officer")["payload"]["label"]


def test_verify_holds_and_says_what_it_held_against(foedus, home):
    found = shown(foedus, "verify", "--org", "east")
    assert found["holds"]
    assert (found["blocks"], found["records"], found["payloads_opened"]) == (4, 4, 3)
    assert found["anchored"] == {"records": 0, "block": 0}
    assert shown(foedus, "verify", "--offline")["ledgers"][0]["anchored"] is None


def test_verify_names_the_first_block_and_field_that_fails_and_exits_with_1(foedus, home):
    path = ledger_folder(home, "east") / LEDGER_FILE
    with sqlite3.connect(path) as raw:
        [(leaf,)] = raw.execute("SELECT leaf FROM records WHERE record = 2").fetchall()
        raw.execute(
            "UPDATE records SET leaf = ? WHERE record = 2",
            (leaf.replace(b'"trainer"', b'"auditor"'),),
        )
    raw.close()
    status, out, _ = foedus("ledger", "verify", "--json")
    assert status == 1
    [result] = json.loads(out)["ledgers"]
    assert not result["holds"]
    assert (result["problem"]["block"], result["problem"]["field"]) == (2, "root")
    status, out, _ = foedus("ledger", "verify")
    assert status == 1
    assert "east: FAILS: block 2, root: 0x" in out


def test_verify_fails_where_more_was_anchored_than_is_there(foedus, everybody, tmp_path):
    folder = ledger_folder(everybody, "north")
    older = shutil.copytree(folder, tmp_path / "older")
    assert foedus("ledger", "endorse", "3", "--org", "north")[0] == 0
    made = shown(foedus, "anchor", "--org", "north")["anchored"]
    assert shown(foedus, "verify", "--org", "north")["anchored"]["records"] == made["records"] == 5
    assert shown(foedus, "anchor", "--org", "north")["anchored"] is None
    shutil.rmtree(folder)
    shutil.move(older, folder)
    status, out, _ = foedus("ledger", "verify", "--org", "north")
    assert status == 1
    assert f"size: 4 records, 5 are anchored in block {made['block']}" in out
    assert foedus("ledger", "verify", "--org", "north", "--offline")[0] == 0


def test_endorse_lists_what_is_pending_and_signs_with_the_officers_keystore(foedus, home):
    assert shown(foedus, "endorse")["pending"] == {"3": {"data-protection-officer": 1}}
    status, _, err = foedus("ledger", "endorse", "3", "--member", "signing")
    assert status == 1
    assert "stands behind record 3 already" in err
    assert shown(foedus, "endorse", "3")["status"] == "effective"
    status, out, _ = foedus("ledger", "endorse")
    assert (status, out.strip()) == (0, "no record lacks endorsements")
    assert foedus("ledger", "endorse", "3")[0] == 1


def test_endorse_takes_a_keystore_from_elsewhere(foedus, home, tmp_path):
    keys = organization_folder(home, "east") / "keys"
    elsewhere = tmp_path / "officers own"
    elsewhere.mkdir(mode=0o700)
    for name in ("officer.json", "officer.passphrase"):
        (keys / name).rename(elsewhere / name)
    status, _, err = foedus("ledger", "endorse", "3")
    assert status == 2
    assert f"there is no keystore at {keys / 'officer.json'}" in err
    found = shown(foedus, "endorse", "3", "--member", str(elsewhere / "officer.json"))
    assert found["status"] == "effective"


def test_erase_asks_and_then_erases_for_good(foedus, home):
    status, _, err = foedus("ledger", "erase", "--records", "2", "--json")
    assert status == 2
    assert "--json does not ask" in err
    assert shown(foedus, "show")["last_records"][2]["status"] == "effective"
    found = shown(foedus, "erase", "--records", "2", "--reason", "retention", "--yes")
    assert found["status"] == "erased"
    status, _, err = foedus("ledger", "show", "--record", "2")
    assert status == 1
    assert "was erased" in err
    assert foedus("ledger", "verify")[0] == 0


def test_erase_takes_ids_only_of_records_that_left_the_training_set(foedus, home, travelling):
    status, _, err = foedus("ledger", "erase", "--ids", IDS[0], "--yes")
    assert status == 1
    assert "did not leave the training set" in err
    with open_ledger(home, "east", account_of("east"), travelling.chain) as ledger:
        data_sets.bury(ledger, [IDS[0]], request=bytes(31) + b"\x01")
    assert shown(foedus, "erase", "--ids", IDS[0], "--yes")["status"] == "erased"
    assert foedus("ledger", "verify")[0] == 0


def test_a_package_is_checked_with_no_access_to_the_ledger(foedus, everybody, tmp_path):
    file, one = tmp_path / "package.json", sorted(IDS)[2]
    package = ("package", "--org", "south", "--records", "2", "--output", str(file))
    status, _, err = foedus("ledger", *package)
    assert status == 1
    assert "nothing of south's ledger is anchored yet" in err
    shown(foedus, "anchor", "--org", "south")
    made = shown(foedus, *package, "--ids", one)
    assert (made["records"], made["entries"]) == (3, 1)
    shutil.rmtree(ledger_folder(everybody, "south"))
    found = shown(foedus, "verify", "--package", str(file))
    assert found["holds"]
    assert [record["record"] for record in found["records"]] == [0, 1, 2]
    assert found["records"][2]["payload"]["round"] == 1
    status, out, _ = foedus("ledger", "verify", "--package", str(file))
    assert status == 0
    assert "record 2: training-run (disclosed)" in out
    assert f"training record {one}: in the set of record 1" in out
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"seed":42', b'"seed":43'))
    status, _, err = foedus("ledger", "verify", "--package", str(file))
    assert status == 1
    assert "signature" in err


def test_a_package_of_an_anchor_that_was_never_made_is_refused(foedus, home, travelling, tmp_path):
    anchors = travelling.chain.anchors
    with open_ledger(home, "east", account_of("east"), travelling.chain) as ledger:
        never = AnchoredRoot(
            size=4,
            root=ledger.history.tree.root().hex(),
            chain_id=anchors.domain.chain_id,
            contract=anchors.domain.contract,
            block=7,
        )
        elsewhere = never.model_copy(update={"chain_id": 1})
        made = {
            name: make_package(ledger, root, [2])
            for name, root in (("never", never), ("elsewhere", elsewhere))
        }
    said = {"never": "no anchor of 4 records", "elsewhere": "this home knows"}
    for name, package in made.items():
        file = tmp_path / f"{name}.json"
        file.write_bytes(package.encoded())
        status, _, err = foedus("ledger", "verify", "--package", str(file))
        assert status == 1
        assert said[name] in err
        status, out, _ = foedus("ledger", "verify", "--package", str(file), "--offline")
        assert status == 0
        assert "was not held against the public chain" in out


def test_members_are_admitted_by_their_card_and_dismissed(foedus, home, tmp_path):
    store_key(tmp_path / "auditor", "auditor", account_of("auditor").key)
    key = str(tmp_path / "auditor" / "auditor.json")
    status, out, _ = foedus("ledger", "card", "--org", "east", "--member", key)
    assert status == 0
    card = tmp_path / "card.json"
    card.write_text(out)
    admitted = shown(foedus, "admit", "--card", str(card), "--roles", "auditor")
    assert admitted["status"] == "pending"
    assert foedus("ledger", "show", "--record", "2", "--member", key)[0] == 1
    assert shown(foedus, "endorse", str(admitted["record"]))["status"] == "effective"
    # The next opening by a holder hands the keys on.
    listed = shown(foedus, "members")["members"]
    assert [one["roles"] for one in listed if one["address"] == account_of("auditor").address] == [
        ["auditor"]
    ]
    assert shown(foedus, "show", "--record", "2", "--member", key)["payload"]["round"] == 1
    gone = shown(foedus, "dismiss", account_of("auditor").address)
    assert shown(foedus, "endorse", str(gone["record"]))["status"] == "effective"
    status, _, err = foedus("ledger", "show", "--member", key)
    assert status == 1
    assert "is no member of the ledger" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("admit", "--card", "{home}/none.json", "--roles", "auditor"), "cannot be read"),
        (("admit", "--card", "{home}/card.json", "--roles", "king"), "expected some of operator"),
        (("admit", "--card", "{home}/card.json", "--roles", "auditor"), "is no member's card"),
        (("dismiss", "0x00"), "is no member of east's ledger"),
        (("show", "--org", "mars"), "there is no ledger of 'mars'"),
        (("show", "--record", "1", "--reads"), "give one of"),
        (("show", "--type", "poem"), "expected one of agent-decision"),
        (("show", "--member", "nobody"), "there is no keystore at"),
        (("erase",), "give --records NUMBERS or --ids IDS"),
        (("erase", "--records", "3-1"), "expected numbers such as 3,7-9"),
        (("erase", "--records", "x"), "expected numbers such as 3,7-9"),
        (("verify", "--package", "{home}/none.json"), "cannot be read"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(foedus, home, arguments, said):
    (home / "card.json").write_text("{}")
    status, _, err = foedus("ledger", *(part.format(home=home) for part in arguments))
    assert status == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_backup_is_restored_without_what_was_erased_since(foedus, home, tmp_path):
    copy = tmp_path / "backup"
    assert shown(foedus, "backup", "--output", str(copy))["records"] == 4
    assert foedus("ledger", "erase", "--records", "2", "--yes")[0] == 0
    found = shown(foedus, "restore", "--org", "east", "--from", str(copy))
    assert found["records"] >= 4
    status, _, err = foedus("ledger", "show", "--record", "2")
    assert status == 1, err
    assert foedus("ledger", "backup", "--output", str(copy))[0] == 1


def test_a_backup_that_lacks_what_was_anchored_is_refused(foedus, everybody, tmp_path):
    copy = str(tmp_path / "backup")
    shown(foedus, "backup", "--org", "west", "--output", copy)
    shown(foedus, "endorse", "3", "--org", "west")
    shown(foedus, "anchor", "--org", "west")
    status, _, err = foedus("ledger", "restore", "--org", "west", "--from", copy)
    assert status == 1
    assert "4 records, 5 are anchored" in err
    assert shown(foedus, "show", "--org", "west")["records"] == 5


def test_every_subcommand_shows_an_example(foedus):
    status, out, _ = foedus("ledger", "--help")
    assert status == 0
    names = "show verify anchor package erase endorse members card admit dismiss backup restore"
    for name in names.split():
        assert name in out
        assert "Example: foedus ledger " + name in foedus("ledger", name, "--help")[1]
