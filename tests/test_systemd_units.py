"""The example units for systemd: what they start is there, and systemd takes them."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from client_app.cli.command import app

UNITS = sorted((Path(__file__).parents[1] / "docs" / "examples" / "systemd").glob("*.service"))


def parsed(unit):
    found = configparser.ConfigParser(strict=True, interpolation=None)
    found.optionxform = str
    found.read_string(unit.read_text())
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_waits_for_the_network_runs_for_a_user_of_its_own_and_loses_no_process(unit):
    found = parsed(unit)
    assert found["Unit"]["After"] == found["Unit"]["Wants"] == "network-online.target"
    service = found["Service"]
    assert (service["Type"], service["Restart"]) == ("exec", "on-failure")
    assert service["User"] not in ("", "root")
    # Only the command is told to end: it ends the others in order. What is left is killed then.
    assert service["KillMode"] == "mixed"
    home = service["Environment"].removeprefix("FOEDUS_HOME=")
    assert service["ReadWritePaths"] == home == f"/var/lib/{service['StateDirectory']}"
    for key, value in (
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("UMask", "0077"),
    ):
        assert service[key] == value
    assert found["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_a_unit_starts_is_a_command_with_that_option(unit):
    program, *arguments = parsed(unit)["Service"]["ExecStart"].split()
    assert program.endswith("/.venv/bin/foedus")
    assert arguments == ["up", "--foreground"]
    up = typer.main.get_command(app).commands["up"]
    assert "--foreground" in {name for parameter in up.params for name in parameter.opts}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit_as_it_is_written(unit, tmp_path):
    # The program is not where an installation has it; everything else is looked at.
    copy = tmp_path / unit.name
    program = parsed(unit)["Service"]["ExecStart"].split()[0]
    copy.write_text(unit.read_text().replace(program, "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (
        0,
        [],
    )


def test_both_roles_have_one():
    assert [unit.stem for unit in UNITS] == ["foedus-coordinator", "foedus-organization"]
