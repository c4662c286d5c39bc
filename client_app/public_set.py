"""The public validation set at an organization's own machine: by its hash, never by a path."""

from pathlib import Path

from client_app.deployment.door import Door, DoorError
from client_app.deployment.node import authority_path, read_node
from client_app.request import CoordinatorError
from llm.rows import DataError
from strategies.handed_out import MAX_BYTES, HandedOut
from strategies.settings import RunSettings


def fetch_public_set(agreed: RunSettings, home: Path, organization: str) -> None:
    """Have a run's public validation set under the organization's home.

    Whatever path the coordinator names is not looked at: it would choose which of the
    organization's files is read, and could learn by the answer what lies there. A set that is a
    file is named by its SHA-256, fetched from the coordinator's door, and kept once it is it.

    Parameters
    ----------
    agreed : RunSettings
        As the coordinator gave them to everybody.
    home : Path
        The organization's own.
    organization : str
        Its name.

    Raises
    ------
    CoordinatorError
        If the settings name a path, or what the door hands out is not what they name.
    """
    where = agreed.public_validation
    if Path(where).is_absolute():
        raise CoordinatorError(
            "public-validation names a path, which is not read on an organization's machine: "
            "`foedus run` hands the file out"
        )
    handed = HandedOut.of(where)
    if handed is None or handed.is_kept(home):
        return
    door = Door.of(read_node(home, organization).coordinator, authority_path(home))
    try:
        handed.keep(home, door.public(handed.sha256, MAX_BYTES))
    except (DoorError, DataError) as error:
        raise CoordinatorError(f"the public validation set cannot be had: {error}") from None
