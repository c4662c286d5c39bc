"""The SuperLink that `foedus up` started on the coordinator's machine, and runs on it."""

from dataclasses import dataclass
from pathlib import Path

from client_app.cli.local_superlink import SuperLink, SuperLinkError
from client_app.deployment.flower import flower_environment
from client_app.deployment.processes import ProcessError, Processes
from client_app.deployment.start_coordinator import processes

_NAME = "superlink"


@dataclass(frozen=True)
class DeployedSuperLink(SuperLink):
    """One that runs on, whatever becomes of a run.

    Parameters
    ----------
    processes : Processes
        Those of the coordinator's machine.
    """

    processes: Processes

    @classmethod
    def of(cls, home: Path) -> "DeployedSuperLink":
        """Return a home's.

        Raises
        ------
        SuperLinkError
            If it does not run.
        """
        running = processes(home)
        found = cls(flower_environment(home), running.log(_NAME), running)
        found.require()
        return found

    def require(self) -> None:
        """Make sure that it runs."""
        try:
            self.processes.require(_NAME)
        except ProcessError as error:
            raise SuperLinkError(f"`foedus up` first: {error}") from None
