"""Calls of the contracts: encoded as web3 encodes them, and read back with plain types."""

import pytest
from eth_abi.abi import encode
from eth_abi.exceptions import DecodingError, EncodingError
from web3 import Web3

from blockchain.artifacts import load
from blockchain.call_codec import codec_of
from blockchain.deployment import CONTRACTS

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
FUNCTIONS = [
    (contract, entry["name"])
    for contract in CONTRACTS
    for entry in load(contract).abi
    if entry["type"] == "function"
]

#: One value of each type, as callers give them.
VALUES = {"address": ADDRESS, "bool": True, "string": "text", "bytes": b"any"}


def value_of(kind, parts):
    if kind.endswith("[]"):
        return [value_of(kind[:-2], parts)] * 2
    if kind == "tuple":
        return tuple(value_of(part["type"], part.get("components")) for part in parts)
    if kind in VALUES:
        return VALUES[kind]
    return 1 if "int" in kind else bytes([1]) * int(kind.removeprefix("bytes"))


@pytest.mark.parametrize(("contract", "call"), FUNCTIONS, ids=".".join)
def test_every_call_is_encoded_as_web3_encodes_it(contract, call):
    abi = load(contract).abi
    [entry] = [one for one in abi if one.get("name") == call and one["type"] == "function"]
    arguments = [value_of(one["type"], one.get("components")) for one in entry["inputs"]]
    expected = Web3().eth.contract(abi=abi).encode_abi(call, args=arguments)
    assert "0x" + codec_of(contract, call).encoded(arguments).hex() == expected


def test_addresses_have_their_checksum_also_within_arrays_of_structs():
    content = encode(["(uint96,address)[]"], [[(7, ADDRESS.lower()), (8, ADDRESS.lower())]])
    assert codec_of("Registry", "keyHistory").decoded(content) == [(7, ADDRESS), (8, ADDRESS)]


def test_what_is_no_answer_is_refused():
    with pytest.raises(DecodingError):
        codec_of("Registry", "keyOf").decoded(b"")


def test_arguments_of_another_type_or_number_are_refused():
    with pytest.raises(EncodingError):
        codec_of("Registry", "keyOf").encoded([bytes(33)])
    with pytest.raises((EncodingError, ValueError)):
        codec_of("Registry", "keyOf").encoded([])


def test_a_function_that_the_contract_does_not_have_is_named():
    with pytest.raises(ValueError, match="Registry has 0 functions keyfOf"):
        codec_of("Registry", "keyfOf")
