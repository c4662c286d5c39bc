"""Consistency proofs between trees, and dozens of corruptions of each, named."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blockchain import transparency_log as log

#: The leaves of Certificate Transparency's own tests, and the roots of their first 0 to 8.
REFERENCE_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@dataclass(frozen=True)
class Claim:
    """What a verifier of consistency is asked to believe."""

    old_size: int
    new_size: int
    old_root: bytes
    new_root: bytes
    proof: tuple[bytes, ...]

    def verifies(self) -> bool:
        return log.verify_consistency(
            self.old_size, self.new_size, self.old_root, self.new_root, self.proof
        )


def make_log(size: int) -> list[bytes]:
    """Leaves of a log: the reference's first, as far as they go."""
    return [*REFERENCE_LEAVES, *(f"leaf {i}".encode() for i in range(8, size))][:size]


def claim(leaves: list[bytes], old_size: int) -> Claim:
    """The true claim that `leaves` extend their first `old_size`."""
    return Claim(
        old_size=old_size,
        new_size=len(leaves),
        old_root=log.root(leaves[:old_size]),
        new_root=log.root(leaves),
        proof=tuple(log.consistency_proof(leaves, old_size)),
    )


def path(old_size: int, new_size: int, whole: bool = True) -> list[str]:
    """Where each node of a consistency proof goes, by the recursion that defines it.

    Sizes with the same path have the same proofs: a root does not bind its size (see
    `blockchain.transparency_log`), and to say other sizes of that kind is no corruption.
    """
    if old_size == new_size:
        return [] if whole else ["start"]
    half = largest_power_of_two_below(new_size)
    if old_size <= half:
        return [*path(old_size, half, whole), "right of the new"]
    return [*path(old_size - half, new_size - half, whole=False), "left of both"]


def largest_power_of_two_below(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def corruptions(true: Claim) -> Iterator[tuple[str, Claim]]:
    """Everything that could be said instead of a true claim, each once and with a name."""
    said = {true}
    for name, false in (*_roots(true), *_sizes(true), *_proofs(true)):
        if false not in said:
            said.add(false)
            yield name, false


def _roots(true: Claim) -> Iterator[tuple[str, Claim]]:
    for field in ("old_root", "new_root"):
        value = getattr(true, field)
        name = field.replace("_", " ")
        for i in (0, 16, 31):
            yield f"{name} byte {i} flipped", replace(true, **{field: _flipped(value, i)})
        yield f"{name} zero", replace(true, **{field: bytes(32)})
        yield f"{name} reversed", replace(true, **{field: value[::-1]})
        yield f"{name} hashed", replace(true, **{field: hashlib.sha256(value).digest()})
        yield f"{name} empty tree", replace(true, **{field: log.EMPTY_ROOT})
        for i, node in enumerate(true.proof):
            if node != value:
                yield f"{name} node {i}", replace(true, **{field: node})
    if true.old_size != true.new_size:
        yield "old root twice", replace(true, new_root=true.old_root)
        yield "new root twice", replace(true, old_root=true.new_root)
        yield "roots exchanged", replace(true, old_root=true.new_root, new_root=true.old_root)


def _sizes(true: Claim) -> Iterator[tuple[str, Claim]]:
    old, new = true.old_size, true.new_size
    for name, sizes in {
        "old size zero": (0, new),
        "new size zero": (old, 0),
        "both sizes zero": (0, 0),
        "old size less by one": (old - 1, new),
        "old size more by one": (old + 1, new),
        "new size less by one": (old, new - 1),
        "new size more by one": (old, new + 1),
        "both sizes less by one": (old - 1, new - 1),
        "both sizes more by one": (old + 1, new + 1),
        "old size doubled": (2 * old, new),
        "new size doubled": (old, 2 * new),
        "both sizes doubled": (2 * old, 2 * new),
        "old size twice": (old, old),
        "new size twice": (new, new),
        "sizes exchanged": (new, old),
        "old size of 32 bits": (2**32 - 1, new),
        "new size of 32 bits": (old, 2**32 - 1),
    }.items():
        possible = 0 < sizes[0] <= sizes[1]
        if not possible or path(*sizes) != path(old, new):
            yield name, replace(true, old_size=sizes[0], new_size=sizes[1])
    if old != new:
        yield (
            "everything exchanged",
            Claim(new, old, true.new_root, true.old_root, true.proof),
        )


def _proofs(true: Claim) -> Iterator[tuple[str, Claim]]:
    for name, proof in _other_proofs(true):
        yield name, replace(true, proof=tuple(proof))
    # Right at every step, but one level above the tree's root.
    old, new = (
        hashlib.sha256(b"\x01" + bytes(32) + node).digest()
        for node in (true.old_root, true.new_root)
    )
    proof = (*true.proof, bytes(32))
    yield "both roots lifted", replace(true, old_root=old, new_root=new, proof=proof)


def _other_proofs(true: Claim) -> Iterator[tuple[str, list[bytes]]]:
    proof = list(true.proof)
    yield "proof empty", []
    for name, node in {
        "zero": bytes(32), "old root": true.old_root, "new root": true.new_root,
    }.items():  # fmt: skip
        yield f"{name} appended", [*proof, node]
        yield f"{name} prepended", [node, *proof]
    yield "proof reversed", proof[::-1]
    yield "proof doubled", [*proof, *proof]
    yield "proof padded to its bound", [*proof, *[bytes(32)] * (64 - len(proof))]
    yield "proof padded beyond its bound", [*proof, *[bytes(32)] * (65 - len(proof))]
    for i, node in enumerate(proof):
        before, after = proof[:i], proof[i + 1 :]
        yield f"proof cut before node {i}", before
        yield f"node {i} dropped", [*before, *after]
        yield f"node {i} doubled", [*before, node, node, *after]
        yield f"node {i} zero", [*before, bytes(32), *after]
        yield f"node {i} hashed", [*before, hashlib.sha256(node).digest(), *after]
        yield f"node {i} reversed", [*before, node[::-1], *after]
        for byte in (0, 31):
            yield f"node {i} byte {byte} flipped", [*before, _flipped(node, byte), *after]
        for j in range(i + 1, len(proof)):
            swapped = [*proof]
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield f"nodes {i} and {j} swapped", swapped


def _flipped(value: bytes, byte: int) -> bytes:
    return bytes(b ^ (1 if i == byte else 0) for i, b in enumerate(value))
