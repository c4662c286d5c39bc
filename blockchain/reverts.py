"""Custom errors of the contracts, decoded from what a refused call returns."""

import functools
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import abi_to_signature, function_abi_to_4byte_selector
from eth_utils.hexadecimal import decode_hex
from web3.exceptions import ContractLogicError, Web3RPCError

from blockchain.artifacts import CONTRACTS, load
from blockchain.errors import TransactionRevertedError

# Solidity's own two: `require(..., "text")` and failed assertions.
_BUILT_IN: Any = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]


def reverted(call: str, error: ContractLogicError | Web3RPCError) -> TransactionRevertedError:
    """Turn web3's undecoded error into a `TransactionRevertedError` that names the custom error."""
    data = _revert_data(error)
    known = _errors().get(data[:4])
    if known is None:
        return TransactionRevertedError(call, nodes_words(error), {})
    parameters: Sequence[dict[str, Any]] = known["inputs"]
    try:
        values = decode([parameter["type"] for parameter in parameters], data[4:])
    except DecodingError:
        return TransactionRevertedError(call, abi_to_signature(known), {})
    named = {parameters[i]["name"]: value for i, value in enumerate(values)}
    return TransactionRevertedError(call, known["name"], named)


def is_revert(error: Web3RPCError) -> bool:
    """Whether the node refused a transaction because it reverts, not for another reason."""
    return bool(_revert_data(error)) or "revert" in nodes_words(error).lower()


def nodes_words(error: Exception) -> str:
    """Give the node's own message for an error, cut to 300 characters."""
    answered = (getattr(error, "rpc_response", None) or {}).get("error", {})
    message = answered.get("message") or getattr(error, "message", None) or str(error)
    return str(message)[:300]


@functools.cache
def _errors() -> dict[bytes, Any]:
    shipped: list[Any] = [entry for contract in CONTRACTS for entry in load(contract).abi]
    return {
        function_abi_to_4byte_selector(entry): entry
        for entry in [*_BUILT_IN, *shipped]
        if entry["type"] == "error"
    }


def _revert_data(error: ContractLogicError | Web3RPCError) -> bytes:
    """Find the returned bytes; each node puts them elsewhere in its answer."""
    candidates: list[Any] = [getattr(error, "data", None)]
    response = getattr(error, "rpc_response", None)
    if response:
        candidates.append(response.get("error", {}).get("data"))
    for candidate in candidates:
        value = candidate
        while isinstance(value, dict):
            value = value.get("data")
        if isinstance(value, str) and value.startswith("0x") and len(value) >= 10:
            return decode_hex(value)
    return b""
