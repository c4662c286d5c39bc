"""What an organization answers to its invitation: its keys, bound to its name by its signature.

The key that signs its updates and the key of its node are given together, under one signature of
the first: whoever has the one without the other cannot take its place.
"""

from typing import Annotated, Final, Self

from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockchain.merkle import organization_id
from blockchain.typed_data import Domain, SignatureError, digest, recover, sign_digest
from strategies.invitation import InvitationError, OrganizationName, Token, token_hash
from strategies.node_key import NodeKeyError, node_key_hash

JOINING_VERSION: Final = 1

_TYPE: Final = "Joining(bytes32 organization,address key,bytes32 nodeKey,bytes32 invitation)"
#: Before there is a contract: the name of the domain alone sets it apart.
_NO_CONTRACT: Final = "0x" + "0" * 40


class JoiningError(Exception):
    """An answer to an invitation does not hold; one line says why."""


class Joining(BaseModel):
    """An organization's answer, as it travels.

    Parameters
    ----------
    version : int
        Of this form.
    organization : str
        Its name.
    key : str
        Address of the key that signs its updates.
    node_key : str
        Public key of its node, in OpenSSH's form.
    token : str
        Of its invitation.
    signature : str
        Of that key, over the others and the token's hash; 65 bytes in hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: int = Field(JOINING_VERSION, ge=JOINING_VERSION, le=JOINING_VERSION)
    organization: OrganizationName
    key: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    node_key: Annotated[str, Field(max_length=1024)]
    token: Token
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]

    @classmethod
    def signed(
        cls, account: LocalAccount, *, organization: str, node_key: str, token: str, chain_id: int
    ) -> Self:
        """Sign an answer.

        Parameters
        ----------
        account : LocalAccount
            The organization's key.
        organization : str
            Its name.
        node_key : str
            Public key of its node, in OpenSSH's form.
        token : str
            Of its invitation.
        chain_id : int
            The chain on which the key is to count.
        """
        signed = _digest(organization, account.address, node_key, token, chain_id)
        return cls(
            organization=organization,
            key=account.address,
            node_key=node_key,
            token=token,
            signature=sign_digest(signed, account).hex(),
        )

    @classmethod
    def read(cls, content: bytes, *, chain_id: int) -> Self:
        """Read an answer that came from outside, and check its signature.

        Whether its token is that of an invitation is not known here.

        Raises
        ------
        JoiningError
            If it is malformed, or signed by another key.
        """
        try:
            found = cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise JoiningError(f"no answer to an invitation: {where}: {first['msg']}") from None
        try:
            signed = _digest(found.organization, found.key, found.node_key, found.token, chain_id)
            signer = recover(signed, bytes.fromhex(found.signature))
        except (NodeKeyError, SignatureError, InvitationError) as error:
            raise JoiningError(f"{found.organization}: {error}") from None
        if signer != found.key:
            raise JoiningError(
                f"{found.organization}: signed by {signer}, expected the key {found.key} that it "
                "gives"
            )
        return found

    @property
    def node_key_hash(self) -> bytes:
        """What the registry keeps of the node's key, 32 bytes."""
        return node_key_hash(self.node_key)


def _digest(organization: str, key: str, node_key: str, token: str, chain_id: int) -> bytes:
    return digest(
        Domain(chain_id, _NO_CONTRACT, "Foedus Joining"),
        _TYPE,
        {
            "organization": organization_id(organization),
            "key": key,
            "nodeKey": node_key_hash(node_key),
            "invitation": token_hash(token),
        },
    )
