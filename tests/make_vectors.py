"""The proofs that the Solidity and the Python tests both check, as JSON files.

``python -m tests.make_vectors`` writes ``hardhat/test/vectors/*.json`` anew. Keys stand in
alphabetical order: the Solidity tests decode each case as a struct with its fields in that order.
"""

import json
from pathlib import Path
from typing import Any

from blockchain import merkle
from blockchain.merkle import Leaf
from tests.chain_samples import make_leaves
from tests.consistency_cases import (
    REFERENCE_LEAVES,
    REFERENCE_ROOTS,
    Claim,
    claim,
    corruptions,
    make_log,
)
from tests.test_merkle import corruptions as inclusion_corruptions

_FOLDER = Path(__file__).parent.parent / "hardhat/test/vectors"
VECTORS = _FOLDER / "consistency.json"
INCLUSION_VECTORS = _FOLDER / "inclusion.json"

#: Every pair of sizes in the reference tree, and some beyond it.
SIZES = [
    *((old, new) for new in range(1, 9) for old in range(1, new + 1)),
    *((1, 64), (63, 64), (64, 65), (65, 127), (100, 101), (127, 128)),
]

#: Those of the pairs whose proofs are also given corrupted, in every way.
CORRUPTED = [(1, 1), (1, 2), (1, 8), (2, 5), (4, 7), (6, 8), (64, 65)]


def vectors() -> str:
    """The file's text: each case on a line of its own."""
    cases = []
    for old_size, new_size in SIZES:
        true = claim(make_log(new_size), old_size)
        name = f"{old_size} to {new_size}"
        cases.append(_case(name, true, valid=True))
        if (old_size, new_size) in CORRUPTED:
            cases += [_case(f"{name}: {how}", false, False) for how, false in corruptions(true)]
    fields = {
        "about": "Consistency proofs of RFC 9162, by `python -m tests.make_vectors`",
        "leaves": [_hex(leaf) for leaf in REFERENCE_LEAVES],
        "roots": [f"0x{root}" for root in REFERENCE_ROOTS],
    }
    head = "".join(f"{json.dumps(key)}:{json.dumps(value)},\n" for key, value in fields.items())
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases)
    return f'{{\n{head}"cases":[\n{lines}\n]\n}}\n'


#: Number of leaves and position of the one that is proven: with and without a sibling missing.
PLACES = [(1, 0), (2, 0), (2, 1), (3, 2), (5, 4), (7, 3), (8, 5), (33, 32), (1000, 617)]


def inclusion_vectors() -> str:
    """The text of the file of inclusion proofs: each case on a line of its own."""
    cases = []
    for count, index in PLACES:
        leaves = make_leaves(bytes(32), 1, count)
        root, proof = merkle.root(leaves), merkle.proof(leaves, index)
        name = f"leaf {index} of {count}"
        cases.append(_inclusion(name, root, leaves[index], proof, valid=True))
        cases += [
            _inclusion(f"{name}: {how}", root, leaf, siblings, valid=False)
            for how, leaf, siblings in inclusion_corruptions(leaves[index], proof)
        ]
    about = json.dumps("Inclusion proofs of a round's leaves, by `python -m tests.make_vectors`")
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases)
    return f'{{\n"about":{about},\n"cases":[\n{lines}\n]\n}}\n'


def _inclusion(
    name: str, root: bytes, leaf: Leaf, proof: list[bytes], *, valid: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "digest": _hex(leaf.digest),
        "index": leaf.index,
        "proof": [_hex(node) for node in proof],
        "root": _hex(root),
        "valid": valid,
        "verdict": leaf.verdict,
    }


def _case(name: str, said: Claim, valid: bool) -> dict[str, Any]:
    return {
        "name": name,
        "newRoot": _hex(said.new_root),
        "newSize": said.new_size,
        "oldRoot": _hex(said.old_root),
        "oldSize": said.old_size,
        "proof": [_hex(node) for node in said.proof],
        "valid": valid,
    }


def _hex(value: bytes) -> str:
    return f"0x{value.hex()}"


if __name__ == "__main__":
    VECTORS.parent.mkdir(exist_ok=True)
    VECTORS.write_text(vectors())
    INCLUSION_VECTORS.write_text(inclusion_vectors())
