"""Starts Flower's ``flwr-clientapp`` for an application bundle that the organization agreed to.

A coordinator hands the application to every node, and Flower runs whatever it is. This stands in
its place: it looks at the bundle before a byte of it is unpacked, and refuses any other than those
named by ``--bundle SHA256``. A run's own setting ``bundle``, which is part of its terms, has to
name the same one.

It is run as a file of its own, by its path and with ``python -P``. It imports nothing of Foedus: a
module imported here would be there already when the bundle's own of that name is asked for.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.common.config import get_project_dir
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supernode.cli import flwr_clientapp
from flwr.supernode.runtime import run_clientapp

SETTING = "bundle"

TaskInput = tuple[Message, Context, Run, Fab]


class BundleRefusedError(Exception):
    """The application is not the one that was agreed on; nothing of it was unpacked or imported."""


class BundleGuard:
    """Stands between what a task brings and its start.

    Parameters
    ----------
    agreed : sequence of str
        SHA-256 of the bundles that may be run, hexadecimal.
    pull : callable
        Flower's: gives a task's message, context, run and bundle.
    install : callable
        Flower's: unpacks a bundle and returns the folder.
    """

    def __init__(
        self,
        agreed: Sequence[str],
        pull: Callable[..., TaskInput],
        install: Callable[..., Path],
    ) -> None:
        self._agreed = frozenset(agreed)
        self._pull = pull
        self._install = install
        self._task: TaskInput | None = None

    def pull(self, *arguments: Any, **more: Any) -> TaskInput:
        """Take a task, and keep what it says of its bundle."""
        self._task = self._pull(*arguments, **more)
        return self._task

    def install(self, content: bytes, *arguments: Any, **more: Any) -> Path:
        """Unpack an agreed bundle.

        Raises
        ------
        BundleRefusedError
            If it is another one, or would be looked for elsewhere than where it is unpacked.
        """
        if self._task is None:
            raise BundleRefusedError("a bundle without a task")
        _, context, run, fab = self._task
        found = hashlib.sha256(content).hexdigest()
        if found not in self._agreed:
            expected = " or ".join(sorted(self._agreed)) or "none"
            raise BundleRefusedError(
                f"the application handed out has SHA-256 {found}, this organization agreed to "
                f"{expected}: it was not started"
            )
        named = context.run_config.get(SETTING)
        if named != found:
            raise BundleRefusedError(
                f"the run's terms name the application {named!r:.80}, the one handed out has "
                f"SHA-256 {found}: it was not started"
            )
        folder = self._install(content, *arguments, **more)
        # Flower imports from where the coordinator's own words lead.
        loaded = get_project_dir(run.fab_id, run.fab_version, fab.hash_str)
        if loaded.resolve() != folder.resolve():
            raise BundleRefusedError(
                f"the application would be loaded from {loaded}, not from {folder} where it was "
                "unpacked: it was not started"
            )
        return folder


def main() -> None:
    """Run ``flwr-clientapp`` with its own arguments, and ``--bundle`` as often as wanted."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--bundle", action="append", default=[], type=_sha256)
    options, sys.argv[1:] = parser.parse_known_args()
    names = ("pull_task_input", "install_from_fab")
    guard = BundleGuard(options.bundle, *(getattr(run_clientapp, name) for name in names))
    for name, guarded in zip(names, (guard.pull, guard.install), strict=True):
        setattr(run_clientapp, name, guarded)
    flwr_clientapp()


def _sha256(text: str) -> str:
    if len(bytes.fromhex(text)) != hashlib.sha256().digest_size:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 64 hexadecimal digits")
    return text.lower()


if __name__ == "__main__":
    main()
