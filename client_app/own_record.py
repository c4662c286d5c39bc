"""What an organization keeps of a task: each round's own reply, each verified receipt, progress.

::

    <home>/organizations/<name>/
        progress.json            what is going on now, for the display
        tasks/<task>/round-0003.json     what we signed in round 3, and the receipt once verified
        tasks/<task>/openings/           what opens our commitments; can be erased
            round-0003.json              update hash and salt
            round-0003.safetensors       the update itself, so that a retry says the same
        tasks/<task>/own.json            which settings of our own we decided by
        tasks/<task>/lineage.json        which rounds of earlier tasks it goes on from, if any
        tasks/<task>/closing.json        the final evaluation
        tasks/<task>/anchor.json         how the last try to anchor the private ledger went
        tasks/<task>/claim.json          how the last try to claim rewards went
        tasks/<task>/earnings.json       what we have earned: `client_app.own_earnings`
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from blockchain.canonical import hash_arrays
from blockchain.durable_file import sync_folder, write_durably
from blockchain.merkle import check_hash
from blockchain.model_update import ModelUpdate
from llm.factors import Arrays
from strategies.lineage import Lineage
from strategies.protocol import RoundReceipt
from strategies.purge_record import covered
from strategies.run_archive import ArchiveError, load_arrays, read_json, write_json
from strategies.settings import RunSettings
from strategies.signed_update import Opening, SignedUpdate

#: Settings of an organization's own that decide what it does in a round.
_DECIDED_BY = ("participation", "token-price", "token-prices", "token-budget", "budget-epoch")

#: What opens a round's commitments, or what a kill left of writing it.
_OPENING = re.compile(r"\.?round-([0-9]{4,})\.(?:json|safetensors)(?:\.\w+)?")

#: The display is refreshed no faster than people can read.
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class OwnReply:
    """Our reply in one round.

    Parameters
    ----------
    signed : SignedUpdate
        What we signed, and its opening.
    digest : bytes
        The digest that was signed, 32 bytes.
    metrics : dict of str to float
        The figures sent beside it.
    receipt : dict or None
        The receipt as kept, once it was verified.
    """

    signed: SignedUpdate
    digest: bytes
    metrics: dict[str, float]
    receipt: dict[str, Any] | None

    def round_receipt(self) -> RoundReceipt | None:
        """Return the coordinator's receipt, if there is one.

        Raises
        ------
        ArchiveError
            If it was altered.
        """
        if self.receipt is None:
            return None
        try:
            return RoundReceipt(
                round=self.signed.update.round,
                index=int(self.receipt["index"]),
                verdict=int(self.receipt["verdict"]),
                digest=self.digest,
                proof=tuple(bytes.fromhex(node) for node in self.receipt["proof"]),
                transaction=str(self.receipt["transaction"]),
                signature=bytes.fromhex(self.receipt["signature"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(
                f"the receipt kept for round {self.signed.update.round} was altered: {error}"
            ) from error


def failed_anchor(folder: Path, anchored: int) -> str:
    """Return why a run's last try to anchor failed; empty if it did not, or was made good since.

    Parameters
    ----------
    folder : Path
        ``<home>/organizations/<name>``.
    anchored : int
        Records that are anchored now.
    """
    tries = sorted(folder.glob("tasks/*/anchor.json"), key=lambda path: path.stat().st_mtime)
    if not tries:
        return ""
    kept = read_json(tries[-1])
    failed_at = kept.get("failed_at")
    return kept["outcome"] if failed_at is not None and failed_at > anchored else ""


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

    def replied(
        self,
        signed: SignedUpdate,
        digest: bytes,
        arrays: Arrays | None,
        metrics: Mapping[str, float],
    ) -> None:
        """Keep our reply, before it is sent: from then on it is the only one we give.

        Parameters
        ----------
        signed : SignedUpdate
            What was signed, and its opening.
        digest : bytes
            The digest that was signed, 32 bytes.
        arrays : dict of str to ndarray, or None
            The update; ``None`` where the round was declined.
        metrics : mapping of str to float
            The figures sent beside it.
        """
        update, opening = signed.update, signed.opening
        if arrays is not None:
            payload, opened = self._opening(update.round)
            payload.parent.mkdir(exist_ok=True)
            contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
            write_durably(payload, save(contiguous))
            write_json(opened, {"update": opening.update_hash.hex(), "salt": opening.salt.hex()})
        write_json(
            self._round(update.round),
            {
                "task": update.task.hex(),
                "round": update.round,
                "organization": update.organization.hex(),
                "parent": update.parent_adapter.hex(),
                "terms": update.terms.hex(),
                "commitment": update.commitment.hex(),
                "examples": update.num_examples,
                "deadline": update.deadline,
                "digest": digest.hex(),
                "signature": signed.signature.hex(),
                "metrics": dict(metrics),
            },
        )
        self._show({"doing": "sent", "round": update.round, "done": 1, "total": 1})

    def reply_in(self, round_number: int) -> OwnReply | None:
        """Return our reply in a round, if there was one.

        Raises
        ------
        ArchiveError
            If what was kept of it was altered; an erased opening is not, it is all zeros.
        """
        path = self._round(round_number)
        if not path.exists():
            return None
        entry = read_json(path)
        try:
            update = ModelUpdate(
                task=bytes.fromhex(entry["task"]),
                round=entry["round"],
                organization=bytes.fromhex(entry["organization"]),
                parent_adapter=bytes.fromhex(entry["parent"]),
                terms=bytes.fromhex(entry["terms"]),
                commitment=bytes.fromhex(entry["commitment"]),
                num_examples=entry["examples"],
                deadline=entry["deadline"],
            )
            signed = SignedUpdate(
                update, bytes.fromhex(entry["signature"]), self._read_opening(round_number)
            )
            digest = check_hash(bytes.fromhex(entry["digest"]), "digest")
            return OwnReply(signed, digest, dict(entry["metrics"]), entry.get("receipt"))
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{path} was altered: {error}") from error

    def payload(self, reply: OwnReply) -> Arrays | None:
        """Return the update that we sent in a round; ``None`` where we declined it.

        Raises
        ------
        ArchiveError
            If it was erased or altered.
        """
        if reply.signed.declines:
            return None
        path, _ = self._opening(reply.signed.update.round)
        arrays = load_arrays(path)
        if hash_arrays(arrays) != reply.signed.opening.update_hash:
            raise ArchiveError(f"{path} was altered: it is not the update that we signed")
        return arrays

    def purge(self, first: int, last: int | None = None) -> list[str]:
        """Delete what opens our commitments of some rounds: update hash, salt, update.

        What we signed and its receipt stay: they say nothing of the data.

        Parameters
        ----------
        first : int
            The first of them, by the task's own count.
        last : int, optional
            The last one; by default all from the first one on.

        Returns
        -------
        list of str
            Names of the files that were deleted now; none where none were left.
        """
        folder = self._task / "openings"
        if not folder.is_dir():
            return []
        matches = (_OPENING.fullmatch(path.name) for path in folder.iterdir())
        names = sorted(m[0] for m in matches if m and covered(int(m[1]), first, last))
        for name in names:
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
        return names

    def last_reply_before(self, round_number: int) -> OwnReply | None:
        """Return our last reply in an earlier round, if there was one."""
        return next(iter(self.replies_before(round_number, 1)), None)

    def replies_before(self, round_number: int, most: int) -> list[OwnReply]:
        """Return our last replies in earlier rounds, the newest first.

        Parameters
        ----------
        round_number : int
            The round.
        most : int
            How many.
        """
        rounds = [int(path.stem.removeprefix("round-")) for path in self._task.glob("round-*.json")]
        earlier = sorted((number for number in rounds if number < round_number), reverse=True)
        replies = (self.reply_in(number) for number in earlier[:most])
        return [reply for reply in replies if reply is not None]

    def received(self, receipt: RoundReceipt, *, included: bool) -> None:
        """Keep a receipt that the coordinator signed for our own reply.

        Parameters
        ----------
        receipt : RoundReceipt
            The receipt.
        included : bool
            Whether its proof leads to the root on the chain. One that does not is what a challenge
            is made of.
        """
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
                    "signature": receipt.signature.hex(),
                    "included": included,
                },
            },
        )

    def works_by(self, settings: RunSettings) -> None:
        """Keep what of the settings is our own, once: rounds made again are decided by it."""
        path = self._task / "own.json"
        if not path.exists():
            config = settings.to_run_config()
            write_json(path, {key: config[key] for key in _DECIDED_BY})

    def own_settings(self) -> dict[str, Any]:
        """Return what was kept of them; nothing where we never worked on the task.

        Raises
        ------
        ArchiveError
            If it was altered.
        """
        path = self._task / "own.json"
        if not path.exists():
            return {}
        kept = read_json(path)
        if kept.keys() != set(_DECIDED_BY):
            raise ArchiveError(f"{path} was altered: expected {', '.join(_DECIDED_BY)}")
        return kept

    def goes_on_from(self, kept: Lineage) -> None:
        """Keep which rounds of earlier tasks the task goes on from."""
        path = self._task / "lineage.json"
        if kept.spans and not path.exists():
            write_json(path, {"kept": str(kept)})

    def kept_rounds(self) -> Lineage:
        """Return which rounds of earlier tasks the task goes on from."""
        path = self._task / "lineage.json"
        if not path.exists():
            return Lineage()
        try:
            return Lineage.parse(str(read_json(path)["kept"]))
        except (KeyError, ValueError) as error:
            raise ArchiveError(f"{path} was altered: {error}") from error

    def submitted(self, round_number: int, outcome: str) -> None:
        """Keep what became of putting our reply on the chain ourselves.

        Parameters
        ----------
        round_number : int
            The round.
        outcome : str
            Hash of the transaction, or why there is none.
        """
        path = self._round(round_number)
        write_json(path, {**read_json(path), "submission": outcome})

    def anchored(self, outcome: str, *, failed_at: int | None = None) -> None:
        """Keep what became of anchoring the private ledger, last.

        Parameters
        ----------
        outcome : str
            Records covered and block, or why it failed.
        failed_at : int, optional
            Where it failed: how many records the ledger had.
        """
        write_json(self._task / "anchor.json", {"outcome": outcome, "failed_at": failed_at})

    def claimed(self, outcome: str) -> None:
        """Keep what became of claiming rewards, last.

        Parameters
        ----------
        outcome : str
            What arrived, or why it did not.
        """
        write_json(self._task / "claim.json", {"outcome": outcome})

    def closed(self, round_number: int, metrics: Mapping[str, float]) -> None:
        """Keep the final evaluation."""
        write_json(self._task / "closing.json", {"round": round_number, "metrics": dict(metrics)})
        self._show({"doing": "done", "round": round_number, "done": 1, "total": 1})

    def _round(self, round_number: int) -> Path:
        return self._task / f"round-{round_number:04d}.json"

    def _opening(self, round_number: int) -> tuple[Path, Path]:
        """Return where payload and opening of a round lie."""
        folder, name = self._task / "openings", f"round-{round_number:04d}"
        return folder / f"{name}.safetensors", folder / f"{name}.json"

    def _read_opening(self, round_number: int) -> Opening:
        _, path = self._opening(round_number)
        if not path.exists():
            return Opening(bytes(32), bytes(32))
        entry = read_json(path)
        return Opening(
            check_hash(bytes.fromhex(entry["update"]), "update"),
            check_hash(bytes.fromhex(entry["salt"]), "salt"),
        )

    def _show(self, progress: Mapping[str, Any]) -> None:
        write_json(self._progress, progress)
        self._shown = time.monotonic()
