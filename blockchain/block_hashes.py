"""The hash of a block by its height: tells one history, or one life, of a chain from another."""

from web3 import Web3
from web3.types import RPCEndpoint


def block_hash(node: Web3, number: int) -> str | None:
    """Hash of the block at a height, ``0x`` and 64 hexadecimal digits; None above the head.

    The node's errors pass as they are: whoever asks says what for.
    """
    # Asked without web3's checks of everything else that is in a block: they take longer than the
    # node does, and fail on chains whose blocks carry more than Ethereum's do.
    block = node.manager.request_blocking(RPCEndpoint("eth_getBlockByNumber"), [hex(number), False])
    return None if block is None else str(block["hash"])
