"""Goes through the checks of a machine, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client_app.doctor.check import Check, Finding, Status, fails
from client_app.doctor.machine import Machine
from client_app.own_errors import own_errors


@dataclass(frozen=True)
class Examined:
    """A check that was gone through.

    Parameters
    ----------
    name : str
        The check's.
    finding : Finding
        What it found.
    """

    name: str
    finding: Finding

    def to_json(self) -> dict[str, Any]:
        """Lay it out for ``--json``."""
        finding = self.finding
        return {
            "check": self.name,
            "status": str(finding.status),
            "found": finding.found,
            "remedy": finding.remedy,
        }


def examine(machine: Machine, checks: Sequence[Check]) -> list[Examined]:
    """Go through checks; those that need one that failed are not carried out.

    Parameters
    ----------
    machine : Machine
        What is looked at.
    checks : sequence of Check
        Each after all that it needs.
    """
    done: dict[str, Examined] = {}
    #: By name of a check that says nothing: the one that failed before it.
    causes: dict[str, str] = {}
    for check in checks:
        cause = next((causes[name] for name in check.needs if name in causes), None)
        if cause is not None:
            causes[check.name] = cause
            finding = Finding(Status.NOT_CHECKED, f"`{cause}` fails")
        else:
            finding = _found(check, machine)
            if finding.status is Status.FAILS:
                causes[check.name] = check.name
        done[check.name] = Examined(check.name, finding)
    return list(done.values())


def _found(check: Check, machine: Machine) -> Finding:
    try:
        finding = check.look(machine)
    except Exception as error:
        if not isinstance(error, own_errors()):
            raise
        finding = fails(str(error), check.remedy)
    return Finding(finding.status, _one_line(finding.found), _one_line(finding.remedy))


def _one_line(text: str) -> str:
    # It may quote what another machine said.
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))
