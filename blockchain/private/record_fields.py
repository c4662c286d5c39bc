"""What bodies and payloads of records are made of: their base, and the types of their fields.

All models are strict, take no unknown field, and hold nothing that canonical JSON cannot: bytes are
lower-case hexadecimal, and a float is the text of `float.hex` (`blockchain.canonical`).
"""

from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final

from eth_utils.address import is_checksum_address
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from blockchain.canonical import canonical_float, canonical_json
from blockchain.private.errors import RecordRefusedError

#: Largest body or payload, in bytes of canonical JSON.
MAX_BYTES: Final = 1 << 20

_INTEGER_LIMIT: Final = 2**53


#: The same few members' addresses come in every record.
_is_checksummed: Final = lru_cache(maxsize=1024)(is_checksum_address)


def _checksummed(value: str) -> str:
    if not _is_checksummed(value):
        raise ValueError("expected an address with its checksum (EIP-55)")
    return value


def _real(value: str) -> str:
    try:
        canonical = canonical_float(float.fromhex(value))
    except (ValueError, OverflowError):
        canonical = None
    if value != canonical:
        raise ValueError("expected a finite number as float.hex writes it")
    return value


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(one >= other for one, other in pairwise(values)):
        raise ValueError("expected ascending numbers, none twice")
    return values


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]
Address = Annotated[str, AfterValidator(_checksummed)]
Number = Annotated[int, Field(ge=0, lt=_INTEGER_LIMIT)]
Integer = Annotated[int, Field(gt=-_INTEGER_LIMIT, lt=_INTEGER_LIMIT)]
Numbers = Annotated[tuple[Number, ...], AfterValidator(_ascending)]
Real = Annotated[str, Field(max_length=32), AfterValidator(_real)]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Wei = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,77})$")]


class Part(BaseModel):
    """A body, a payload, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    #: The type of record that this is the body or payload of.
    record_type: ClassVar[str] = ""

    #: Fields that came later: left out where they hold nothing, as older records leave them out.
    added_later: ClassVar[tuple[str, ...]] = ()

    def canonical(self) -> bytes:
        """Encode it; `RecordRefusedError` beyond `MAX_BYTES`."""
        encoded = canonical_json(self._laid_out())
        if len(encoded) > MAX_BYTES:
            raise RecordRefusedError(
                f"{self.record_type}: {len(encoded):,} bytes, expected at most {MAX_BYTES:,}"
            )
        return encoded

    def checked(self) -> dict[str, Any]:
        """Lay it out for a leaf; `RecordRefusedError` beyond `MAX_BYTES`."""
        self.canonical()
        return self._laid_out()

    def _laid_out(self) -> dict[str, Any]:
        laid_out = self.model_dump(mode="json")
        return {k: v for k, v in laid_out.items() if v is not None or k not in self.added_later}
