"""A file that a coordinator hands out to all machines of a run, known by the SHA-256 of its bytes.

The setting is ``sha256:HASH.jsonl`` (or ``.csv``), and names no place: on every machine, the
coordinator's among them, the file lies at ``<home>/public-validation/HASH.jsonl``.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from blockchain.durable_file import write_durably
from llm.rows import DataError

#: A set of 48 rows, the default, is far below; the door's answer and what is kept are bounded.
MAX_BYTES: Final = 16 * 1024 * 1024
#: How a file's hash is written, and nothing else is.
HASH: Final = re.compile(r"[0-9a-f]{64}")

_SETTING: Final = re.compile(r"sha256:([0-9a-f]{64})\.(jsonl|csv)")
_KINDS: Final = ("jsonl", "csv")


@dataclass(frozen=True)
class HandedOut:
    """A file by its content.

    Parameters
    ----------
    sha256 : str
        Of its bytes, 64 hexadecimal digits.
    kind : {"jsonl", "csv"}
        How its rows are written.
    """

    sha256: str
    kind: str

    @classmethod
    def of(cls, setting: str) -> Self | None:
        """Read a setting; ``None`` where it names no file by its content."""
        found = _SETTING.fullmatch(setting)
        return None if found is None else cls(*found.groups())

    @property
    def setting(self) -> str:
        """What stands in a run's settings, and so in its terms."""
        return f"sha256:{self.sha256}.{self.kind}"

    def path(self, home: Path) -> Path:
        """Return where it lies under a home."""
        return _folder(home) / f"{self.sha256}.{self.kind}"

    def check(self, content: bytes) -> None:
        """Make sure that some bytes are it.

        Raises
        ------
        DataError
            If they are too many, or have another hash.
        """
        if len(content) > MAX_BYTES:
            raise DataError(
                f"public-validation: {len(content):,} bytes, expected at most {MAX_BYTES:,}"
            )
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise DataError(f"public-validation: a file of SHA-256 {found}, expected {self.sha256}")

    def keep(self, home: Path, content: bytes) -> None:
        """Check it and write it under a home."""
        self.check(content)
        write_durably(self.path(home), content)

    def present(self, home: Path) -> Path:
        """Return where it lies under a home, once what lies there was found to be it.

        Raises
        ------
        DataError
            If it is not there, or something else is.
        """
        path = self.path(home)
        self.check(_bytes(path))
        return path

    def is_kept(self, home: Path) -> bool:
        """Whether it lies under a home, unspoilt."""
        try:
            self.present(home)
        except DataError:
            return False
        return True


def hand_out(home: Path, source: Path) -> HandedOut:
    """Keep a copy of a coordinator's file where its door finds it.

    Raises
    ------
    DataError
        If it is missing, too large, or neither ``.jsonl`` nor ``.csv``.
    """
    kind = source.suffix.removeprefix(".")
    if kind not in _KINDS:
        raise DataError(f"{source}: expected a file ending in .jsonl or .csv")
    content = _bytes(source)
    made = HandedOut(hashlib.sha256(content).hexdigest(), kind)
    made.keep(home, content)
    return made


def kept_content(home: Path, sha256: str) -> bytes | None:
    """Return what a home keeps under a hash; ``None`` where that is nothing, or is no hash."""
    if not HASH.fullmatch(sha256):
        return None
    for kind in _KINDS:
        handed = HandedOut(sha256, kind)
        if handed.path(home).is_file() and handed.is_kept(home):
            return _bytes(handed.path(home))
    return None


def _folder(home: Path) -> Path:
    return home / "public-validation"


def _bytes(path: Path) -> bytes:
    """Read a file, of one too large no more than tells that it is."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"public-validation: {path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"public-validation: {path}: more than {MAX_BYTES:,} bytes")
    return content
