"""What an organization keeps of a task: each round's own reply, each verified receipt, progress.

::

    <home>/organizations/<name>/
        progress.json            what is going on now, for the display
        tasks/<task>/round-0003.json     our reply of round 3, and the receipt once verified
        tasks/<task>/closing.json        the final evaluation
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategies.protocol import RoundReceipt
from strategies.run_archive import read_json, write_json

#: The display is refreshed no faster than people can read.
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class OwnReply:
    """Our reply in one round: the round and the update's canonical hash (32 bytes)."""

    round: int
    update_hash: bytes


class OwnRecord:
    """One organization's record of one task.

    Parameters
    ----------
    folder : Path
        ``<home>/organizations/<name>``; made if it does not exist.
    task : bytes
        Id of the task, 32 bytes.
    """

    def __init__(self, folder: Path, task: bytes) -> None:
        self._progress = folder / "progress.json"
        self._task = folder / "tasks" / task.hex()
        self._task.mkdir(parents=True, exist_ok=True)
        self._shown = 0.0

    def doing(
        self, what: str, round_number: int, done: int, total: int, loss: float | None = None
    ) -> None:
        """Say what is going on and how far it is; most calls write nothing.

        Parameters
        ----------
        what : str
            For people, such as ``training``.
        round_number : int
            The round.
        done, total : int
            Steps or rows.
        loss : float, optional
            Of the last step, nats.
        """
        if 0 < done < total and time.monotonic() - self._shown < _PROGRESS_SECONDS:
            return
        progress: dict[str, Any] = {
            "doing": what,
            "round": round_number,
            "done": done,
            "total": total,
        }
        if loss is not None:
            progress["loss"] = loss
        self._show(progress)

    def trained(
        self,
        round_number: int,
        update_hash: bytes,
        num_examples: int,
        metrics: Mapping[str, float],
    ) -> None:
        """Keep our reply, before it is sent."""
        write_json(
            self._round(round_number),
            {
                "round": round_number,
                "update": update_hash.hex(),
                "examples": num_examples,
                "metrics": dict(metrics),
            },
        )
        self._show({"doing": "sent", "round": round_number, "done": 1, "total": 1})

    def reply_in(self, round_number: int) -> OwnReply | None:
        """Return our reply in a round, if there was one."""
        if not self._round(round_number).exists():
            return None
        entry = read_json(self._round(round_number))
        return OwnReply(int(entry["round"]), bytes.fromhex(entry["update"]))

    def verified(self, receipt: RoundReceipt) -> None:
        """Keep a receipt that chain and own reply bear out."""
        path = self._round(receipt.round)
        write_json(
            path,
            {
                **read_json(path),
                "receipt": {
                    "index": receipt.index,
                    "verdict": receipt.verdict,
                    "proof": [node.hex() for node in receipt.proof],
                    "transaction": receipt.transaction,
                },
            },
        )

    def closed(self, round_number: int, metrics: Mapping[str, float]) -> None:
        """Keep the final evaluation."""
        write_json(self._task / "closing.json", {"round": round_number, "metrics": dict(metrics)})
        self._show({"doing": "done", "round": round_number, "done": 1, "total": 1})

    def _round(self, round_number: int) -> Path:
        return self._task / f"round-{round_number:04d}.json"

    def _show(self, progress: Mapping[str, Any]) -> None:
        write_json(self._progress, progress)
        self._shown = time.monotonic()
