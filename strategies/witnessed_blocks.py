"""The blocks that an organization saw, one file for each life of a chain."""

from pathlib import Path

from blockchain.block_witness import SeenBlock, missing, note
from blockchain.public_chain import PublicChain
from strategies.home import organization_folder


def witnessed_file(chain: PublicChain, home: Path, organization: str) -> Path:
    """Return where an organization notes the blocks of this chain.

    A chain that was begun anew has another first block, and another file: what was seen of the old
    one says nothing about it.
    """
    folder = organization_folder(home, organization) / "blocks"
    return folder / f"{chain.genesis_hash().removeprefix('0x')}.jsonl"


def witness(chain: PublicChain, home: Path, organization: str) -> list[SeenBlock]:
    """Note the chain's newest block, unless one that was noted before has left the chain.

    Returns
    -------
    list of SeenBlock
        What has left the chain: its history was rewritten. Empty where all still stands.

    Raises
    ------
    ChainError
        If the file was altered, or the chain does not answer.
    """
    path = witnessed_file(chain, home, organization)
    gone = missing(chain.node, path)
    if not gone:
        note(chain.node, path, chain.confirmations)
    return gone
