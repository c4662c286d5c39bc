"""Who answered the coordinator's invitations, as the coordinator keeps it."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from blockchain.durable_file import write_durably
from strategies.node_key import node_key_hash

_PRIVATE: Final = 0o600


class JoinedError(Exception):
    """What is kept of an organization is malformed; one line says where."""


@dataclass(frozen=True)
class Joined:
    """An organization that answered its invitation.

    Parameters
    ----------
    organization : str
        Its name.
    key : str
        Address of the key that signs its updates.
    node_key : str
        Public key of its node, in OpenSSH's form.
    node : int
        Flower's id of the node.
    invitation : str
        Hash of the token, hexadecimal.
    signature : str
        Of the key, over the others; hexadecimal.
    """

    organization: str
    key: str
    node_key: str
    node: int
    invitation: str
    signature: str

    @property
    def node_key_hash(self) -> bytes:
        """What the registry keeps of the node's key, 32 bytes."""
        return node_key_hash(self.node_key)


class JoinedOrganizations:
    """The coordinator's record of them, a file each.

    Parameters
    ----------
    folder : Path
        ``<home>/coordinator/joined``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __iter__(self) -> Iterator[Joined]:
        """Yield all of them, by name."""
        for path in sorted(self._folder.glob("*.json")):
            found = self.read(path.stem)
            if found is not None:
                yield found

    def read(self, organization: str) -> Joined | None:
        """Return what an organization answered; None where it has not.

        Raises
        ------
        JoinedError
            If the file is malformed.
        """
        path = self._path(organization)
        try:
            return Joined(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise JoinedError(f"{path} was altered: {error}") from None

    def write(self, joined: Joined) -> None:
        """Keep an answer."""
        content = json.dumps(asdict(joined), indent=1, sort_keys=True) + "\n"
        write_durably(self._path(joined.organization), content, _PRIVATE)

    def _path(self, organization: str) -> Path:
        return self._folder / f"{organization}.json"
