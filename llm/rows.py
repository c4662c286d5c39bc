"""Rows of a JSONL or CSV file, each with its place; whatever is malformed is refused by line.

A file is not trusted: its size, the length of a row and the number of rows are bounded. Messages
never repeat the data, for an exception of an organization's process may reach the server.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from llm.json_nesting import check_nesting

MAX_FILE_BYTES = 1 << 30
MAX_ROW_BYTES = 1 << 20
MAX_ROWS = 1_000_000


class DataError(ValueError):
    """A data set cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Row:
    """One row and its place.

    Parameters
    ----------
    place : str
        File and line number, or data set and row number; for messages.
    fields : dict
        Field names to values, as JSON knows them.
    """

    place: str
    fields: dict[str, object]


def read_rows(path: Path) -> Iterator[Row]:
    """Read a ``.jsonl`` file (one JSON object a line) or a ``.csv`` file (with a header line).

    Blank lines are skipped. A byte-order mark at the start is ignored.

    Parameters
    ----------
    path : Path
        The file, UTF-8, at most 1 GiB with at most a million rows of at most 1 MiB.

    Raises
    ------
    DataError
        If the file is missing, of another kind or too large, or a row is malformed.
    """
    if path.suffix not in {".jsonl", ".csv"}:
        raise DataError(f"{path}: expected a file ending in .jsonl or .csv")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise DataError(
            f"{path}: {path.stat().st_size:,} bytes, expected at most {MAX_FILE_BYTES:,}"
        )
    with path.open("rb") as file:
        rows = _json_rows(file, path) if path.suffix == ".jsonl" else _csv_rows(file, path)
        for number, row in enumerate(rows, start=1):
            if number > MAX_ROWS:
                raise DataError(f"{row.place}: more than {MAX_ROWS:,} rows")
            yield row


@dataclass
class _Lines:
    """Decoded lines of a file; counts them, and the bytes since the present row began."""

    file: BinaryIO
    path: Path
    number: int = 0
    row_number: int = 1
    row_bytes: int = 0

    def begin_row(self) -> None:
        self.row_number = self.number + 1
        self.row_bytes = 0

    @property
    def place(self) -> str:
        return f"{self.path}:{self.number}"

    def __iter__(self) -> Iterator[str]:
        while line := self.file.readline(MAX_ROW_BYTES + 1):
            self.number += 1
            self.row_bytes += len(line)
            if self.row_bytes > MAX_ROW_BYTES:
                raise DataError(
                    f"{self.path}:{self.row_number}: the row is longer than {MAX_ROW_BYTES:,} bytes"
                )
            try:
                yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.place}: invalid UTF-8 at byte {error.start + 1} of the line"
                ) from None


def _json_rows(file: BinaryIO, path: Path) -> Iterator[Row]:
    lines = _Lines(file, path)
    for line in lines:
        lines.begin_row()
        if not line.strip():
            continue
        try:
            check_nesting(line)
            value = json.loads(
                line, object_pairs_hook=_distinct_fields, parse_constant=_refuse_constant
            )
        except json.JSONDecodeError as error:
            raise DataError(
                f"{lines.place}: not JSON: {error.msg} at column {error.colno}"
            ) from None
        except ValueError as error:
            raise DataError(f"{lines.place}: not acceptable JSON: {error}") from None
        if not isinstance(value, dict):
            raise DataError(f"{lines.place}: expected a JSON object, got {type(value).__name__}")
        yield Row(lines.place, value)


def _distinct_fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field occurs twice in one object")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _csv_rows(file: BinaryIO, path: Path) -> Iterator[Row]:
    lines = _Lines(file, path)
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        lines.begin_row()
        place = f"{path}:{lines.row_number}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{place}: not CSV: {error}") from None
        if values is None:
            return
        if not values:
            continue
        if header is None:
            header = values
            if len(set(header)) != len(header) or not all(name.strip() for name in header):
                raise DataError(f"{place}: the header's names must be different and not empty")
            continue
        if len(values) != len(header):
            raise DataError(f"{place}: {len(values)} fields, but the header names {len(header)}")
        yield Row(place, dict(zip(header, values, strict=True)))
