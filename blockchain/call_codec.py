"""Calls of our contracts, encoded and decoded: what of a call depends on the contract's ABI alone.

web3 looks a function up in the whole ABI, and builds every function of it, for each connection and
call: 10 milliseconds a contract, and 1.4 to encode a call (measured on a quiet core). Here that
is done once a function. The encoding itself is eth-abi's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.abi import abi_to_signature, collapse_if_tuple
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from blockchain.artifacts import load


@dataclass(frozen=True)
class CallCodec:
    """One function of a contract.

    Parameters
    ----------
    selector : bytes
        The first 4 bytes of the signature's hash.
    inputs : tuple of str
        Types of its arguments, structs as tuples.
    outputs : tuple of dict
        What it returns, as the ABI has it.
    """

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[dict[str, Any], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the parts of the struct that it returns."""
        return tuple(part["name"] for part in self.outputs[0]["components"])

    def encoded(self, arguments: Sequence[Any]) -> bytes:
        """Return what is sent to the contract.

        Raises
        ------
        eth_abi.exceptions.EncodingError, ValueError
            If the arguments are not of the function's types.
        """
        return self.selector + encode(self.inputs, arguments)

    def decoded(self, content: bytes) -> Any:
        """Return what the contract answered: one value, or a list where it returns several.

        Addresses have their checksum (EIP-55).

        Raises
        ------
        eth_abi.exceptions.DecodingError
            If it is no answer of the function's types.
        """
        kinds = [collapse_if_tuple(one) for one in self.outputs]
        values = [
            _readable(one["type"], one, value)
            for one, value in zip(self.outputs, decode(kinds, content), strict=True)
        ]
        return values[0] if len(values) == 1 else values


@lru_cache(maxsize=256)
def codec_of(contract: str, call: str) -> CallCodec:
    """Return the codec of a function of one of our contracts.

    Raises
    ------
    ValueError
        If the contract does not have one function of that name.
    """
    found = [e for e in load(contract).abi if e["type"] == "function" and e["name"] == call]
    if len(found) != 1:
        raise ValueError(f"{contract} has {len(found)} functions {call}, expected one")
    entry: Any = found[0]
    return CallCodec(
        selector=keccak(text=abi_to_signature(entry))[:4],
        inputs=tuple(collapse_if_tuple(one) for one in entry["inputs"]),
        outputs=tuple(dict(one) for one in entry["outputs"]),
    )


def _readable(kind: str, entry: Mapping[str, Any], value: Any) -> Any:
    """Return a decoded value with lists for arrays, and addresses with their checksum."""
    if kind.endswith("]"):
        return [_readable(kind[: kind.rindex("[")], entry, one) for one in value]
    if kind == "tuple":
        parts = zip(entry["components"], value, strict=True)
        return tuple(_readable(part["type"], part, one) for part, one in parts)
    return str(to_checksum_address(value)) if kind == "address" else value
