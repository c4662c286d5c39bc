"""The one place where bytes are made for hashing: arrays and manifests, in one form only.

Two parties that hold the same values get the same hash, whatever machine, library or order of
insertion the values came through; two different values never share an encoding.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Size in bytes of every hash here.
HASH_SIZE: Final = 32

#: What canonical JSON can hold: no floats (see `canonical_float`).
CanonicalJSON: TypeAlias = (
    "bool | int | str | list[CanonicalJSON] | Mapping[str, CanonicalJSON] | None"
)

# A change to an encoding gets a new tag, so that a hash never means two things.
_ARRAYS_TAG: Final = b"foedus.arrays.v1"
_JSON_TAG: Final = b"foedus.json.v1"

_KINDS: Final = "biuf"

# Beyond this, a reader that keeps numbers as IEEE doubles (RFC 8785, section 3.2.2.3) would read
# another number than was written.
_LARGEST_INTEGER: Final = 2**53 - 1

_WRITER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

# Deeper documents are refused before Python's own recursion limit does it less clearly.
_DEEPEST: Final = 64


def hash_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    r"""Hash named arrays, independent of insertion order, memory order and byte order.

    SHA-256 over ``b(tag) || u64(n)`` and then, for each array in the order of its UTF-8 name,
    ``b(name) || b(dtype) || u64(ndim) || u64(shape_0) ... || b(data)``, where ``u64`` is an
    unsigned little-endian 64-bit integer, ``b(x) = u64(len(x)) || x``, ``dtype`` is NumPy's string
    for the little-endian type (``<f4``) and ``data`` the values in C order, little-endian.
    Every part has its length in front, so that no two inputs share an encoding. Values count by
    their bits: ``-0.0`` differs from ``0.0``, and so do two NaNs with different payloads.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of booleans, integers or floats, of any shape.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    TypeError
        A name is no string, or a value is no array of one of these types.
    """
    digest = hashlib.sha256(_sized(_ARRAYS_TAG) + _u64(len(arrays)))
    for name, array in sorted(arrays.items(), key=_encoded_name):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _KINDS:
            given = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array)
            raise TypeError(
                f"array {name!r}: expected an ndarray of booleans, integers or floats, got {given}"
            )
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            # Extended precision has padding bytes, and another layout on every platform.
            raise TypeError(f"array {name!r}: {array.dtype} is not portable, expected float64")
        canonical = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(_sized(name.encode()) + _sized(canonical.dtype.str.encode()))
        digest.update(_u64(array.ndim) + b"".join(map(_u64, array.shape)))
        digest.update(_u64(canonical.nbytes))
        digest.update(canonical.reshape(-1).view(np.uint8).data)
    return digest.digest()


def canonical_json(value: CanonicalJSON) -> bytes:
    """Encode a JSON document in its one canonical form, after RFC 8785.

    Keys are sorted by their UTF-16 code units, nothing is escaped that need not be, and no white
    space is written. Floats are refused, since their text differs between writers; where one is
    needed, write `canonical_float` of it.

    Parameters
    ----------
    value : None, bool, int, str, list or mapping with str keys, nested
        Integers lie within plus or minus ``2**53 - 1``; text is valid Unicode.

    Returns
    -------
    bytes
        UTF-8 text.

    Raises
    ------
    TypeError
        A value or key is of another type.
    ValueError
        An integer is too large, a text holds half a surrogate pair, or the nesting is deeper
        than 64 levels.
    """
    return _WRITER.encode(_ordered(value, "document", _DEEPEST)).encode()


def hash_json(value: CanonicalJSON) -> bytes:
    """Hash a document: SHA-256 (32 bytes) over ``b("foedus.json.v1") || canonical_json(value)``."""
    return hashlib.sha256(_sized(_JSON_TAG) + canonical_json(value)).digest()


def canonical_float(value: float) -> str:
    """Write a finite float64 so that it reads back with the same bits: ``float.hex``.

    Read it with ``float.fromhex``. 0.1 becomes ``0x1.999999999999ap-4``.
    """
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    return float(value).hex()


def _ordered(value: CanonicalJSON, place: str, levels: int) -> CanonicalJSON:
    """Check `value` and return it with its keys in canonical order."""
    if levels == 0:
        raise ValueError(f"{place[:80]}...: nested deeper than {_DEEPEST} levels")
    if value is None or isinstance(value, bool):
        return value
    # Exact types: a subclass may write itself differently than it compares.
    if type(value) is int:
        if abs(value) > _LARGEST_INTEGER:
            raise ValueError(f"{place}: {value} is beyond 2**53 - 1: write it as a string")
        return value
    if type(value) is str:
        return _unicode(value, place)
    if type(value) is list:
        return [_ordered(item, f"{place}[{i}]", levels - 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{place}: key {key!r} is a {type(key).__name__}, expected str")
            _unicode(key, place)
        return {key: _ordered(value[key], f"{place}.{key}", levels - 1) for key in _in_order(value)}
    raise TypeError(
        f"{place}: expected None, bool, int, str, list or mapping, got {type(value).__name__}"
    )


def _in_order(keys: Iterable[str]) -> list[str]:
    """Sort by UTF-16 code units; of ASCII, Python's own order is the same."""
    if all(map(str.isascii, keys)):
        return sorted(keys)
    return sorted(keys, key=lambda key: key.encode("utf-16-be"))


def _unicode(text: str, place: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: {text!r} is not valid Unicode text") from error
    return text


def _encoded_name(item: tuple[str, NDArray[Any]]) -> bytes:
    name = item[0]
    if not isinstance(name, str):
        raise TypeError(f"array name {name!r} is a {type(name).__name__}, expected str")
    return name.encode()


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _sized(data: bytes) -> bytes:
    return _u64(len(data)) + data
