"""The contract ``Anchors``: how far each organization's private ledger is anchored, for good.

An anchor is the size and the root of a ledger, signed by its organization. The contract itself
verifies that the ledger still begins with what the last anchor covered
(`blockchain.transparency_log.consistency_proof`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from blockchain.contract import Contract
from blockchain.merkle import check_hash
from blockchain.sender import TransactionReceipt
from blockchain.typed_data import Domain, digest

ANCHOR_TYPE: Final = "Anchor(bytes32 organization,uint64 size,bytes32 root,uint256 deadline)"

#: Name of the contract's EIP-712 domain.
_DOMAIN_NAME: Final = "Foedus Anchors"


@dataclass(frozen=True)
class AnchorStatement:
    """What an organization signs to anchor its ledger.

    Parameters
    ----------
    organization : bytes
        Its id, 32 bytes.
    size : int
        Number of entries of its ledger, 64 bits.
    root : bytes
        Root of its ledger (RFC 9162), 32 bytes.
    deadline : int
        Second, since the epoch, until which the signature may be used.
    """

    organization: bytes
    size: int
    root: bytes
    deadline: int

    def digest(self, domain: Domain) -> bytes:
        """Return what is signed, 32 bytes; `ValueError` for a field of another size."""
        return digest(domain, ANCHOR_TYPE, asdict(self))


@dataclass(frozen=True)
class Anchor:
    """An anchor that stands.

    Parameters
    ----------
    size : int
        Number of entries; 0 before the first anchor.
    root : bytes
        Root, 32 bytes; zeros before the first anchor.
    block : int
        Block in which it was made; 0 before the first anchor.
    """

    size: int
    root: bytes
    block: int


@dataclass(frozen=True)
class AnchorEvent:
    """An anchor as the chain's events tell of it.

    Parameters
    ----------
    anchor : Anchor
        The anchor.
    previous_size : int
        Size of the anchor that it was proven to extend; 0 for the first.
    """

    anchor: Anchor
    previous_size: int


class Anchors:
    """The anchors of all organizations' ledgers.

    Parameters
    ----------
    contract : Contract
        The contract, with an account where something is to be sent.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    @property
    def domain(self) -> Domain:
        """Where signatures of anchors count."""
        return Domain(self._contract.settings.chain_id, self._contract.address, _DOMAIN_NAME)

    def last(self, organization: bytes) -> Anchor:
        """Return an organization's last anchor; of size 0 where there is none."""
        fields = self._contract.read_struct("anchorOf", check_hash(organization, "organization"))
        return Anchor(int(fields["size"]), bytes(fields["root"]), int(fields["anchored_block"]))

    def history(self, organization: bytes, first_block: int = 1) -> list[AnchorEvent]:
        """Return an organization's anchors since a block, in the order they were made in."""
        check_hash(organization, "organization")
        return [
            AnchorEvent(
                Anchor(
                    int(log["args"]["size"]), bytes(log["args"]["root"]), int(log["blockNumber"])
                ),
                int(log["args"]["previousSize"]),
            )
            for log in self._contract.events(
                "Anchored", first_block, self._contract.height(), organization=organization
            )
        ]

    def anchor(
        self, statement: AnchorStatement, signature: bytes, proof: Sequence[bytes]
    ) -> TransactionReceipt:
        """Anchor a ledger as its organization signed it, or find the anchor made already.

        Parameters
        ----------
        statement : AnchorStatement
            What was signed.
        signature : bytes
            By the organization's present key, 65 bytes.
        proof : sequence of bytes
            Consistency proof from the last anchor; empty for the first.

        Raises
        ------
        TransactionRevertedError
            The ledger has not grown, does not begin with what is anchored, or another key signed.
        """
        last = self.last(statement.organization)
        if (last.size, last.root) == (statement.size, statement.root):
            return self._contract.receipt_of(
                "Anchored", last.block, organization=statement.organization
            )
        return self._contract.send(
            "anchor",
            statement.organization,
            statement.size,
            statement.root,
            statement.deadline,
            signature,
            list(proof),
        )
