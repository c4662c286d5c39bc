"""Which SuperLink carries a run out: one of its own, unless machines are separate."""

from contextlib import AbstractContextManager, nullcontext

from client_app.cli.deployed_superlink import DeployedSuperLink
from client_app.cli.local_superlink import SuperLink, local_superlink
from strategies.settings import RunSettings


def superlink_of(settings: RunSettings) -> AbstractContextManager[SuperLink]:
    """Return the SuperLink of a run, for as long as the context lasts.

    Raises
    ------
    SuperLinkError
        If machines are separate, and the one that `foedus up` started does not run.
    """
    if settings.bundle:
        return nullcontext(DeployedSuperLink.of(settings.home_path))
    return local_superlink(settings.home_path / "flwr")
