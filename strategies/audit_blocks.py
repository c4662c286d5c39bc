"""Whether the blocks that were written down about a run are still on the chain.

A chain that was rewritten may hold the same records at other block hashes. Whoever noted a block
sees it here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from blockchain.block_witness import missing
from blockchain.errors import ChainError
from blockchain.merkle import check_hash
from blockchain.public_chain import PublicChain
from blockchain.typed_data import check_integer
from strategies.audit_check import Check
from strategies.run_archive import ArchiveError, RunArchive
from strategies.witnessed_blocks import witnessed_file


@dataclass(frozen=True)
class Witness:
    """A block as somebody noted it.

    Parameters
    ----------
    height : int
        Its height.
    hash : bytes
        Its hash, 32 bytes.
    """

    height: int
    hash: bytes


def recorded_blocks(archive: RunArchive, round_number: int) -> list[Witness]:
    """Return the blocks noted about a round: that of its seal, once that was confirmed.

    Raises
    ------
    ArchiveError
        If the note was altered.
    """
    if not archive.is_sealed(round_number):
        return []
    seal = archive.seal(round_number)
    try:
        height = check_integer("block", seal["block"], 64)
        noted = check_hash(bytes.fromhex(seal["block_hash"]), "block_hash")
    except (KeyError, TypeError, ValueError) as error:
        path = archive.round_folder(round_number) / "seal.json"
        raise ArchiveError(f"{path} was altered: {error}") from error
    return [Witness(height, noted)]


def check_witnessed(archive: RunArchive, chain: PublicChain) -> Iterator[Check]:
    """Check that the blocks that organizations under the run's home saw are on the chain."""
    for folder in sorted((archive.home / "organizations").glob("*/blocks")):
        name = folder.parent.name
        try:
            gone = missing(chain.node, witnessed_file(chain, archive.home, name))
        except ChainError as error:
            yield Check(0, "recorded block", False, f"the blocks that {name} saw: {error}")
            continue
        seen = gone[0] if gone else None
        yield Check(
            0,
            "recorded block",
            seen is None,
            f"{name} saw block {seen.height} of hash {seen.hash}, which has left the chain: its "
            "history was replaced"
            if seen
            else "",
        )


def check_blocks(archive: RunArchive, round_number: int, chain: PublicChain) -> Iterator[Check]:
    """Check that the blocks noted about a round are on the chain, each at its height."""
    for witness in recorded_blocks(archive, round_number):
        stands = chain.block_hash(witness.height)
        yield Check(
            round_number,
            "recorded block",
            stands == witness.hash,
            f"block {witness.height} was noted as 0x{witness.hash.hex()}, the chain has "
            f"{'none there' if stands is None else '0x' + stands.hex()}: its history was replaced",
        )
