"""A contract that emits as many events as one asks for, without a compiler, and its accounts."""

from eth_abi import encode
from eth_account import Account
from eth_utils import keccak

from blockchain.chain_settings import ChainSettings
from tests.chain_samples import ask

ADDRESS = "0x" + "77" * 20
ABI = [
    {
        "type": "event",
        "name": "Ping",
        "anonymous": False,
        "inputs": [
            {"name": "number", "type": "uint256", "indexed": True},
            {"name": "note", "type": "bytes32", "indexed": False},
        ],
    }
]
TOPIC = keccak(b"Ping(uint256,bytes32)")

# mem[0] = note; for (i = 0; i < count; i++) emit Ping(i, note)
_CODE = (
    "602035600052" + "60005b" + "6000358110" + "60125700"
    + "5b80" + "7f" + TOPIC.hex() + "60206000a2" + "600101" + "600856"
)  # fmt: skip


def install(settings: ChainSettings) -> None:
    """Put it at its address."""
    ask(settings, "hardhat_setCode", ADDRESS, "0x" + _CODE)


def pings(count: int, note: int) -> bytes:
    """Call data that emits `count` events."""
    return encode(["uint256", "uint256"], [count, note])


def emit(settings: ChainSettings, count: int, note: int) -> str:
    """Emit events from one of the node's own accounts, and return the transaction's hash."""
    sender = ask(settings, "eth_accounts")[0]
    transaction = {
        "from": sender,
        "to": ADDRESS,
        "data": "0x" + pings(count, note).hex(),
        "gas": hex(15_000_000),
    }
    return str(ask(settings, "eth_sendTransaction", transaction))


def funded_account(settings: ChainSettings, ether: float = 10.0):
    """A fresh account with some ether."""
    account = Account.create()
    ask(settings, "hardhat_setBalance", account.address, hex(int(ether * 1e18)))
    return account
