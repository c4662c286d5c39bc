"""Commands of ours that stand before Flower's own of the same name on the path."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blockchain.durable_file import write_durably
from client_app import bundle_guard, task_launcher

_EXECUTABLE: Final = 0o700


def write_launcher(folder: Path) -> Path:
    """Write the command that starts tasks without their tokens in arguments; return its folder."""
    _write(folder / "flower-superexec", str(task_launcher.__file__))
    return folder


def write_guard(folder: Path, bundles: Sequence[str]) -> Path:
    """Write the command that starts agreed bundles alone; return its folder.

    Parameters
    ----------
    folder : Path
        Where it is written.
    bundles : sequence of str
        SHA-256 of those agreed to, hexadecimal.
    """
    named = [f"--bundle {bundle}" for bundle in bundles]
    _write(folder / "flwr-clientapp", str(bundle_guard.__file__), *named)
    return folder


def _write(path: Path, source: str, *more: str) -> None:
    command = " ".join([f'"{sys.executable}" -P "{source}"', *more])
    write_durably(path, f'#!/bin/sh\nexec {command} "$@"\n', _EXECUTABLE)
