"""Blocks that somebody saw with their own eyes, to hold against what the chain says later.

An organization notes the newest block at every message, in a file that only it can write: a JSON
line for each, ``{"chain_id": 31337, "height": 7, "hash": "0x..."}``. A block's hash stands for all
transactions, results and states up to it. So whoever rewrites the history, by taking blocks back or
by replaying an altered journal, gives other hashes from the first changed block on, and a noted
block above it is missing.

What this does **not** catch:

- State changed behind the chain's back, with no block (Hardhat's ``hardhat_setStorageAt``): the
  noted blocks stay. Its next block has another state root than an honest replay of the same
  transactions would give, but nobody noted that one before. `ManagedChain.replay` comes upon it.
- What was rewritten above the newest noted block.
- A node that shows this organization another chain than the others: compare notes for that.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Final

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from web3 import Web3

from blockchain.block_hashes import block_hash
from blockchain.connection import answers_of
from blockchain.durable_file import sync_folder, write_durably
from blockchain.errors import ChainFileError

#: Lines after which the file is made smaller, and how many of the newest are then kept.
MOST: Final = 512
NEWEST: Final = 256
#: Older blocks kept, at most: what is no longer on the chain.
_EVIDENCE: Final = 128

_MAX_BYTES: Final = 1 << 20


class SeenBlock(BaseModel):
    """A block as it was seen.

    Parameters
    ----------
    chain_id : int
        Chain id.
    height : int
        Height of the block.
    hash : str
        Its hash, ``0x`` and hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: int = Field(ge=1, lt=2**63)
    height: int = Field(ge=0, lt=2**63)
    hash: Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]


def note(node: Web3, path: Path, confirmations: int = 1) -> SeenBlock | None:
    """Note the newest block; it is on the disk when this returns.

    A block already noted is not noted again. The file never has more than `MOST` lines: then the
    older ones that still stand are dropped, for a newer block that stands vouches for them; what
    does not stand is evidence, and is kept.

    Parameters
    ----------
    node : Web3
        Connection to the chain.
    path : Path
        The organization's file; made with its folder where there is none.
    confirmations : int
        Blocks, its own included, before a block counts: more than 1 where a chain may take back
        its newest blocks with nobody doing wrong.

    Returns
    -------
    SeenBlock or None
        The block, or None where the chain has too few blocks yet.

    Raises
    ------
    ChainFileError
        The file holds anything else. It is left as it is.
    NodeUnreachableError, ChainError
        The node did not answer, or with an error.
    """
    with answers_of(node, "the newest block"):
        height = int(node.eth.block_number) - (confirmations - 1)
        newest = block_hash(node, height) if height >= 0 else None
        if newest is None:
            return None
        seen = SeenBlock(chain_id=node.eth.chain_id, height=height, hash=newest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        noted = _read(path)
        if seen in noted:
            return seen
        if len(noted) >= MOST:
            older, newer = noted[:-NEWEST], noted[-NEWEST:]
            # Of another chain, this node cannot say whether they stand.
            others = [block for block in older if block.chain_id != seen.chain_id]
            kept = (_gone(node, older) + others)[:_EVIDENCE]
            write_durably(path, "".join(_line(block) for block in (*kept, *newer, seen)))
        else:
            _append(path, _line(seen))
    return seen


def missing(node: Web3, path: Path) -> list[SeenBlock]:
    """Return the noted blocks that are not on the chain, in the order in which they were noted.

    Blocks of a chain with another id are not judged.

    Raises
    ------
    ChainFileError, NodeUnreachableError, ChainError
        As for `note`.
    """
    return _gone(node, _read(path))


def _gone(node: Web3, noted: list[SeenBlock]) -> list[SeenBlock]:
    with answers_of(node, "the blocks noted"):
        chain_id = node.eth.chain_id
        ours = [block for block in noted if block.chain_id == chain_id]
        return [block for block in ours if block_hash(node, block.height) != block.hash]


def _read(path: Path) -> list[SeenBlock]:
    """Read the file; a last line that a kill cut short does not count."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ChainFileError(f"{path} is no file of noted blocks: larger than 1 MiB")
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    noted = []
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            noted.append(SeenBlock.model_validate_json(text))
        except ValidationError as error:
            raise ChainFileError(
                f"{path}:{number} is no noted block ({error.errors()[0]['msg']}): it was altered; "
                "keep it aside, and begin a new file"
            ) from error
    return noted


def _append(path: Path, line: str) -> None:
    new = not path.exists()
    with path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def _line(block: SeenBlock) -> str:
    return json.dumps(block.model_dump()) + "\n"
