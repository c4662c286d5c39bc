"""The messages between coordinator and organizations: their kinds, records and keys.

Four kinds of message in every run, each answered once:

``query.hello``
    Which organizations does this node serve?
``train``
    One round: the global adapter, the round's terms, what the organization has earned; answered by
    update, signature and metrics, or by a signed decline.
``evaluate.attest``
    To attestors: all that a sealed round was made of; answered by scores and signature.
``evaluate.closing``
    The end of a run: the last round's receipt and the final adapter; answered by the final
    evaluation. Nothing is left for a next message that never comes.

Three more in a run that unlearns:

``query.forget``
    Which rounds does your request concern? Answered by a signed plan for each request.
``evaluate.vouch``
    To attestors: the evidence of a request that was carried out; answered by a signature.
``query.forgotten``
    The receipt: the organization deletes what it keeps itself of the rounds that were replaced.

One in a run that makes another's rounds again, to compare:

``train.again``
    The adapter that a round of yours began with: what do you come to? Answered by the hash of the
    update, and in what that differs from the one that was signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from numpy.lib import format as npy
from numpy.typing import NDArray

HELLO = "query.hello"
TRAIN = "train"
ATTEST = "evaluate.attest"
CLOSING = "evaluate.closing"
FORGET = "query.forget"
VOUCH = "evaluate.vouch"
FORGOTTEN = "query.forgotten"
AGAIN = "train.again"

#: Keys of the records in a message's content.
ADAPTER = "adapter"
UPDATE = "update"
HEADER = "header"
OPENING = "opening"
METRICS = "metrics"
ORGANIZATIONS = "organizations"

#: In a round of recovery: the adapters before and after the unlearning.
BEFORE = "before-unlearning"
AFTER = "after-unlearning"

#: How the names of figures begin that were measured on data that is to be forgotten. Two of them,
#: ``rows`` and ``hold-out-rows``, are how many records the others rest on.
FORGOTTEN_FIGURE = "forgotten-"

#: Entry of a header: `strategies.reward_statement.write_statements`.
REWARDS = "rewards"

#: Entry of a closing message's header: nothing is to be evaluated.
UNEVALUATED = "unevaluated"

T = TypeVar("T")

#: Serialization of an entry that is a whole safetensors file.
_FILE = "safetensors"

#: An ``.npy`` header is a few dozen bytes and padded to 64; more is not one of ours.
_MAX_NPY_HEADER = 1024


class ProtocolError(ValueError):
    """A message lacks something, or holds something other than was agreed."""


@dataclass(frozen=True)
class RoundReceipt:
    """What the coordinator owes an organization for a round it replied in.

    Parameters
    ----------
    round : int
        The sealed round.
    index : int
        Position of the organization's leaf.
    verdict : int
        0 for accepted, otherwise the code of :class:`strategies.replies.Verdict`.
    digest : bytes
        What the organization signed, 32 bytes.
    proof : tuple of bytes
        Merkle inclusion proof of the leaf, leaf level first.
    transaction : str
        Hash of the seal's transaction.
    signature : bytes
        The coordinator's own, over the digest: it had the update in time. 65 bytes.
    """

    round: int
    index: int
    verdict: int
    digest: bytes
    proof: tuple[bytes, ...]
    transaction: str
    signature: bytes

    def to_header(self) -> dict[str, Any]:
        """Lay the receipt out as entries of a message's header."""
        return {
            "receipt-round": self.round,
            "receipt-index": self.index,
            "receipt-verdict": self.verdict,
            "receipt-digest": self.digest,
            "receipt-proof": list(self.proof),
            "receipt-transaction": self.transaction,
            "receipt-signature": self.signature,
        }

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "RoundReceipt | None":
        """Read a receipt; ``None`` when the header carries none."""
        if "receipt-round" not in header:
            return None
        proof = header.get("receipt-proof", [])
        if not isinstance(proof, list) or not all(
            isinstance(node, bytes) and len(node) == 32 for node in proof
        ):
            raise ProtocolError("receipt-proof: expected a list of 32-byte strings")
        return cls(
            round=integer(header, "receipt-round"),
            index=integer(header, "receipt-index"),
            verdict=integer(header, "receipt-verdict"),
            digest=digest(header, "receipt-digest"),
            proof=tuple(proof),
            transaction=text(header, "receipt-transaction"),
            signature=signature(header, "receipt-signature"),
        )


def header_record(entries: Mapping[str, Any]) -> ConfigRecord:
    """Return the header of a message."""
    return ConfigRecord(dict(entries))


def array_record(arrays: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Return float32 arrays as a record, in sorted order."""
    return ArrayRecord({name: Array(np.ascontiguousarray(arrays[name])) for name in sorted(arrays)})


def file_record(files: Mapping[str, bytes]) -> ArrayRecord:
    """Return safetensors files as a record, in sorted order."""
    return ArrayRecord(
        {name: Array("uint8", (len(files[name]),), _FILE, files[name]) for name in sorted(files)}
    )


def read_files(record: ArrayRecord) -> dict[str, bytes]:
    """Return the content of files; what is in it is for others to check.

    Raises
    ------
    ProtocolError
        If an entry is no file.
    """
    for name, array in record.items():
        if array.stype != _FILE:
            raise ProtocolError(f"{name[:120]!r}: serialized as {array.stype[:64]!r}, no file")
    return {name: array.data for name, array in record.items()}


def decode_array(array: Array, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read one float32 array of known shape from an untrusted record.

    The serialized header must be the one that NumPy writes for this dtype and shape. It is
    compared, never parsed: NumPy's reader would evaluate a stranger's text, and raise whatever that
    leads to.

    Raises
    ------
    ProtocolError
        If serialization, dtype, shape or length are not what was expected.
    """
    if array.stype != "numpy.ndarray":
        raise ProtocolError(f"serialized as {array.stype!r}, expected 'numpy.ndarray'")
    expected_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    if not expected_bytes < len(array.data) <= expected_bytes + _MAX_NPY_HEADER:
        raise ProtocolError(
            f"{len(array.data)} bytes for shape {shape}, expected {expected_bytes} and a header"
        )
    offset = len(array.data) - expected_bytes
    _check_npy_header(array.data[:offset], shape)
    return np.frombuffer(array.data, dtype="<f4", offset=offset).reshape(shape)


def _check_npy_header(header: bytes, shape: tuple[int, ...]) -> None:
    """Compare a header with that of a float32 array in C order, but for the padding's length.

    NumPy's format 1.0: magic and version (8 bytes), the length of what follows (2 bytes, little
    endian), a dictionary's text padded with spaces up to a newline.
    """
    stream = BytesIO()
    npy.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": tuple(map(int, shape))}
    )
    expected = stream.getvalue()
    found, length = header[10:], int.from_bytes(header[8:10], "little")
    if (
        header[:8] != expected[:8]
        or length != len(found)
        or found.rstrip(b" \n") != expected[10:].rstrip(b" \n")
    ):
        raise ProtocolError(
            f"header {found.rstrip()[:100]!r}, expected that of a float32 array of shape {shape} "
            "in C order"
        )


def text(header: Mapping[str, Any], key: str) -> str:
    """Return a header's text entry, or raise :class:`ProtocolError`."""
    return _entry(header, key, str)


def integer(header: Mapping[str, Any], key: str) -> int:
    """Return a header's non-negative whole number, or raise :class:`ProtocolError`."""
    value = _entry(header, key, int)
    if isinstance(value, bool) or not 0 <= value < 2**53:
        raise ProtocolError(f"{key}: {value!r}, expected a whole number from 0 to 2^53")
    return value


def digest(header: Mapping[str, Any], key: str) -> bytes:
    """Return a header's 32-byte hash, or raise :class:`ProtocolError`."""
    return _sized(header, key, 32)


def signature(header: Mapping[str, Any], key: str) -> bytes:
    """Return a header's signature of 65 bytes, or raise :class:`ProtocolError`."""
    return _sized(header, key, 65)


def data(header: Mapping[str, Any], key: str) -> bytes:
    """Return a header's bytes, however many, or raise :class:`ProtocolError`."""
    return _entry(header, key, bytes)


def _sized(header: Mapping[str, Any], key: str, size: int) -> bytes:
    value = _entry(header, key, bytes)
    if len(value) != size:
        raise ProtocolError(f"{key}: {len(value)} bytes, expected {size}")
    return value


def _entry(header: Mapping[str, Any], key: str, kind: type[T]) -> T:
    if key not in header:
        raise ProtocolError(f"{key} is missing")
    value = header[key]
    if not isinstance(value, kind):
        raise ProtocolError(f"{key}: {type(value).__name__}, expected {kind.__name__}")
    return value
