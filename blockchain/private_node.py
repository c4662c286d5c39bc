"""Hardhat's development chain as a child process that is spoken to by pipe: it opens no port."""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import IO, Any, Final, Self

from blockchain.errors import NodeError
from blockchain.toolchain import hardhat_folder, node_executable

_SCRIPT: Final = Path("scripts", "private_node.mjs")
_END_SECONDS: Final = 5.0


class PrivateNode:
    """A chain in memory, asked one question at a time.

    Parameters
    ----------
    initial_date : str
        Time of its first block, ISO 8601: the same date gives the same first block.
    log : file
        Where its complaints go.

    Raises
    ------
    ToolchainMissingError
        Hardhat's folder was not found.
    """

    def __init__(self, initial_date: str, log: IO[bytes]) -> None:
        folder = hardhat_folder()
        self._process = subprocess.Popen(
            [str(node_executable()), str(_SCRIPT), initial_date],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )

    def ask(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Ask, and return JSON-RPC's ``result`` or ``error``.

        Raises
        ------
        NodeError
            If the node has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise NodeError("the private node was started without pipes")
        try:
            stdin.write(json.dumps({"method": method, "params": params}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except OSError as error:
            raise NodeError(f"the private node does not answer: {error}") from error
        if not line:
            raise NodeError("the private node has ended")
        return dict(json.loads(line))

    def result(self, method: str, *params: Any) -> Any:
        """Ask what cannot fail; :class:`NodeError` if it does."""
        answer = self.ask(method, list(params))
        if "error" in answer:
            raise NodeError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
