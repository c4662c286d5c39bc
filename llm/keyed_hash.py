"""A keyed hash of named values: what splits and draws use instead of a shuffle.

A shuffle moves every later row when one is taken out. A keyed hash looks at one row alone, so
adding or forgetting a row moves no other.
"""

import hmac


def keyed_hash(key: bytes, purpose: str, *parts: str | int) -> bytes:
    """HMAC-SHA256 (RFC 2104) of ``purpose`` and ``parts``.

    Parameters
    ----------
    key : bytes
        Secret or public; a different key gives unrelated values.
    purpose : str
        What the value is for: two purposes never share a value.
    *parts : str or int
        The values, in order. See :func:`encoded`.

    Returns
    -------
    bytes
        32 bytes.
    """
    return hmac.digest(key, encoded(purpose, *parts), "sha256")


def encoded(*parts: str | int) -> bytes:
    """Encode values so that no two different sequences give the same bytes.

    Text is ``s``, its length as 8 bytes, big-endian, and its UTF-8 bytes; an integer is ``i`` and
    8 bytes, big-endian two's complement. The encoding of a sequence is the encodings of its
    values one after the other, so a prefix can be encoded once.

    Raises
    ------
    ValueError
        If an integer does not fit 64 bits or text cannot be encoded.
    """
    return b"".join(map(_encoded_part, parts))


def _encoded_part(part: str | int) -> bytes:
    if isinstance(part, str):
        data = part.encode("utf-8")
        return b"s" + len(data).to_bytes(8, "big") + data
    try:
        return b"i" + part.to_bytes(8, "big", signed=True)
    except OverflowError:
        raise ValueError(f"integer {part} does not fit 64 bits") from None
