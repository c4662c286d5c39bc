"""What a coordinator hands an organization that is to take part from a machine of its own.

A file that carries where the coordinator is reached, by whose certificate it is known, which chain
counts, and a token that is good for one organization and one time. It travels by a way that the
coordinator trusts: who reads it on the way can take the organization's place until it has joined.
"""

import hashlib
import json
import re
import secrets
import time
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockchain.durable_file import write_durably

INVITATION_VERSION: Final = 1
_TOKEN_BYTES: Final = 32
#: It holds a secret.
_PRIVATE: Final = 0o600
_MAX_BYTES: Final = 64 * 1024

OrganizationName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]


class InvitationError(Exception):
    """What was brought is no invitation, or no valid one; nothing of what is secret is said."""


class Invitation(BaseModel):
    """An invitation, as the file has it.

    Parameters
    ----------
    version : int
        Of this form.
    organization : str
        Whom it is for.
    address : str
        Where the coordinator is reached: host name or IP address, a colon, and the port.
    authority : str
        Certificate, in PEM, of the authority that the coordinator's is issued by.
    chain_id : int
        The chain that counts.
    chain_url : str
        Its node; empty where the coordinator runs it, behind the same address.
    token : str
        64 hexadecimal digits.
    expires : int
        Second since the epoch after which it is no longer taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: int = Field(INVITATION_VERSION, ge=INVITATION_VERSION, le=INVITATION_VERSION)
    organization: OrganizationName
    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]
    authority: Annotated[str, Field(pattern=r"^-----BEGIN CERTIFICATE-----\n", max_length=8192)]
    chain_id: int = Field(ge=1, lt=2**63)
    chain_url: Annotated[str, Field(max_length=2048)] = ""
    token: Token
    expires: int = Field(ge=0, lt=2**53)

    @property
    def host(self) -> str:
        """Host name or IP address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.address.rpartition(":")[2])

    def write(self, path: Path) -> None:
        """Write it for its owner alone."""
        write_durably(path, self.model_dump_json(indent=1) + "\n", _PRIVATE)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it.

        Raises
        ------
        InvitationError
            If it is none.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvitationError(f"{path}: {error.strerror}") from None
        if len(content) > _MAX_BYTES:
            raise InvitationError(f"{path}: {len(content)} bytes are no invitation")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise InvitationError(f"{path} is no invitation: {where}: {first['msg']}") from None


class Invitations:
    """Whom the coordinator invited.

    Parameters
    ----------
    folder : Path
        ``<home>/coordinator``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "invitations"

    def note(self, invitation: Invitation) -> None:
        """Note an invitation: one that was there for the organization is void from now on."""
        noted = {
            "organization": invitation.organization,
            "token_hash": token_hash(invitation.token).hex(),
            "expires": invitation.expires,
        }
        content = json.dumps(noted, indent=1, sort_keys=True) + "\n"
        write_durably(self._path(invitation.organization), content, _PRIVATE)

    def check(self, organization: str, invitation: str) -> None:
        """Make sure that an invitation, by its token's hash, is the organization's and holds.

        Raises
        ------
        InvitationError
            If not.
        """
        try:
            noted = json.loads(self._path(organization).read_text(encoding="utf-8"))
        except FileNotFoundError:
            # Of a name that was never invited no more is said than of a wrong token.
            noted = {"token_hash": ""}
        if noted["token_hash"] != invitation:
            raise InvitationError(
                f"{organization}: not the invitation that the coordinator gave out"
            )
        if time.time() > noted["expires"]:
            raise InvitationError(
                f"{organization}: its invitation has expired: ask the coordinator for a new one"
            )

    def _path(self, organization: str) -> Path:
        return self._folder / f"{organization}.json"


def new_token() -> str:
    """Return a token of the system's randomness."""
    return secrets.token_hex(_TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """Return what the coordinator keeps of a token: its SHA-256, 32 bytes.

    Raises
    ------
    InvitationError
        If it is no token.
    """
    if re.fullmatch(r"[0-9a-f]{64}", token) is None:
        raise InvitationError("a token that is not 64 hexadecimal digits")
    return hashlib.sha256(bytes.fromhex(token)).digest()
