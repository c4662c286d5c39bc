"""The file of results: every cell that was measured, one a line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from blockchain.durable_file import write_durably
from strategies.run_archive import read_json


@dataclass(frozen=True)
class ResultsFile:
    """What was measured; several processes may add to it.

    Parameters
    ----------
    path : Path
        The JSON.
    """

    path: Path

    def read(self) -> dict[str, Any]:
        """Return ``settings`` by their digest, and ``cells`` by name and digest."""
        return read_json(self.path) if self.path.exists() else {"settings": {}, "cells": {}}

    def put(self, digest: str, setting: Mapping[str, Any], cell: Mapping[str, Any]) -> None:
        """Add a cell, or replace what it was before.

        Parameters
        ----------
        digest : str
            Of the setting.
        setting : mapping
            What the digest stands for.
        cell : mapping
            With its name.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            found = self.read()
            found["settings"][digest] = dict(setting)
            found["cells"][key_of(cell["name"], digest)] = {**cell, "setting": digest}
            write_durably(self.path, _text(found))


def key_of(name: str, digest: str) -> str:
    """Return a cell's key in the file: cells of different settings lie side by side."""
    return f"{name} @{digest}"


def _text(found: Mapping[str, Mapping[str, Any]]) -> str:
    # A line a cell: a change of one is a change of one line, whatever it holds.
    parts = [f"{json.dumps(name)}: {{\n{_lines(found[name])}\n}}" for name in ("settings", "cells")]
    return "{" + ",\n".join(parts) + "}\n"


def _lines(entries: Mapping[str, Any]) -> str:
    return ",\n".join(
        f"{json.dumps(key)}: {json.dumps(entries[key], sort_keys=True, allow_nan=False)}"
        for key in sorted(entries)
    )
