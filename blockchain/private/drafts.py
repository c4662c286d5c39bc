"""Records about to be written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blockchain.private.errors import RecordRefusedError
from blockchain.private.record_fields import Part
from blockchain.private.record_types import check_parts


@dataclass(frozen=True)
class NewEntry:
    """A leaf of the data set, about to be committed.

    Parameters
    ----------
    commitment : bytes
        `blockchain.private.encoding.entry_commitment`, 32 bytes.
    secret : bytes
        What opens it.
    key : bytes
        Under which that is encrypted, 32 bytes.
    """

    commitment: bytes
    secret: bytes
    key: bytes


@dataclass(frozen=True)
class Draft:
    """A record about to be written.

    Parameters
    ----------
    body, payload : Part or None
        Its parts, of one type.
    entries : sequence of NewEntry
        Of a data set.
    role_keys : mapping of str to bytes
        Of a change of members: the new private keys that its body names the public ones of.
    """

    body: Part | None = None
    payload: Part | None = None
    entries: Sequence[NewEntry] = ()
    role_keys: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The type of record."""
        types = {part.record_type for part in (self.body, self.payload) if part is not None}
        if len(types) != 1:
            raise RecordRefusedError(f"a record with parts of {', '.join(sorted(types)) or 'none'}")
        [one] = types
        check_parts(one, body=self.body is not None, payload=self.payload is not None)
        return one
