"""`foedus doctor` as a command: the order of its checks, how it ends, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from client_app.deployment.coordinator import certificates
from client_app.doctor.check import Check, Status, fails, holds
from client_app.doctor.examination import examine
from client_app.doctor.machine import Machine
from client_app.doctor.registry import COORDINATOR, ORGANIZATION
from llm.rows import DataError
from strategies.organization_key import key_folder
from tests.doctor_cases import coordinator_machine, organization_machine
from tests.foedus_command import foedus
from tests.signing_cases import account_of

__all__ = ["foedus"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOEDUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def coordinator(tmp_path):
    return coordinator_machine(tmp_path / "coordinator")


@pytest.fixture
def north(tmp_path, coordinator):
    return organization_machine(tmp_path / "north", certificates(coordinator.home))


@pytest.mark.parametrize("checks", [COORDINATOR, ORGANIZATION], ids=["coordinator", "organization"])
def test_each_check_stands_after_what_it_needs_and_says_what_to_do(checks):
    seen = set()
    for check in checks:
        assert check.name not in seen
        assert check.remedy
        assert set(check.needs) <= seen, check.name
        seen.add(check.name)


@pytest.mark.parametrize("checks", [COORDINATOR, ORGANIZATION], ids=["coordinator", "organization"])
def test_the_documentation_lists_every_check_for_the_machines_that_have_it(checks):
    text = (Path(__file__).parents[1] / "docs" / "deployment.md").read_text()
    where = "coordinator" if checks is COORDINATOR else "organization"
    listed = set()
    for line in text.partition("| check | where |")[2].partition("\n\n")[0].splitlines()[2:]:
        names, place = (cell.strip() for cell in line.split("|")[1:3])
        listed |= set(names.split(", ")) if place in {"both", where} else set()
    assert listed == {check.name for check in checks}


def test_what_needs_a_failed_check_is_not_looked_at_and_names_the_first_that_failed():
    looked = []

    def look(verdict):
        def one(_):
            looked.append(verdict)
            return verdict

        return one

    def raises(_):
        raise DataError("row 3:\n \x1b[2J is no row")

    checks = [
        Check("a", raises, "mend it"),
        Check("b", look(holds("well")), "-", ("a",)),
        Check("c", look(holds("well")), "-", ("b",)),
        Check("d", look(holds("well")), "-"),
        Check("e", look(fails("bad", "do this")), "-", ("d",)),
    ]
    a, b, c, d, e = (one.finding for one in examine(Machine("/home"), checks))
    assert (a.status, a.found, a.remedy) == (Status.FAILS, "row 3: ?[2J is no row", "mend it")
    assert [one.status for one in (b, c)] == [Status.NOT_CHECKED] * 2
    assert c.found == "`a` fails"
    assert (d.status, e.remedy) == (Status.HOLDS, "do this")
    assert len(looked) == 2


def test_a_mistake_in_a_check_is_no_finding():
    def mistaken(_):
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        examine(Machine("/home"), [Check("a", mistaken, "-")])


def test_the_command_tells_which_machine_it_is_and_ends_by_what_it_found(foedus, tmp_path, north):
    coordinator = tmp_path / "coordinator"
    for home, kind in ((coordinator, "coordinator"), (north.home, "organization")):
        status, out, _ = foedus("doctor", "--home", str(home), "--json")
        said = json.loads(out)
        assert (status, said["holds"], said["machine"]) == (1, False, kind)
        for one in said["checks"]:
            assert one["status"] in set(Status)
            assert bool(one["remedy"]) == (one["status"] in {"fails", "warns"}), one
    assert said["organization"] == "north"
    status, out, _ = foedus("doctor", "--home", str(north.home))
    assert status == 1
    assert "what to do" in out
    status, out, err = foedus("doctor", "--home", str(tmp_path / "none"))
    assert (status, out) == (2, "")
    assert "`foedus init`" in err
    assert foedus("doctor", "--home", str(north.home), "--org", "west")[0] == 2


def test_a_machine_is_left_as_it_was(foedus, tmp_path, coordinator, north):
    def everything():
        return {
            path: path.read_bytes() if path.is_file() else b""
            for path in tmp_path.rglob("*")
            if path.suffix != ".lock"
        }

    before = everything()
    for home in (coordinator.home, north.home):
        foedus("doctor", "--home", str(home))
    assert everything() == before


def test_no_secret_is_said(foedus, coordinator, north):
    keys = key_folder(north.home, "north")
    secrets = [
        account_of("north").key.hex(),
        (keys / "signing.passphrase").read_text(),
        *(north.home / "organizations" / "north" / "node" / "node").read_text().splitlines()[1:-1],
        *certificates(coordinator.home).authority_key.read_text().splitlines()[1:-1],
    ]
    keys.joinpath("signing.json").chmod(0o644)
    for home in (coordinator.home, north.home):
        _, out, err = foedus("doctor", "--home", str(home), "--json")
        for secret in secrets:
            assert secret not in out + err
