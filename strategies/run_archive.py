"""A run on disk: every round's state, updates, manifest and seal, each written whole or not at all.

::

    <home>/runs/<run>/
        run.json                 settings, terms, task, status
        run.log                  what happened, one line an event
        updates/<hash>.safetensors   every stored update, under its canonical hash
        rounds/0003/
            manifest.json        what the seal commits to (canonical encoding)
            openings.json        what opens the manifest's commitments; can be erased
            record.json          what it does not: timings, reasons, evaluations
            state.safetensors    the aggregation rule's state after the round
            adapter/             the global adapter as a PEFT folder
            seal.json            the transaction, once its receipt was checked
            attestation.json     scores and signatures of the attestors, then their transaction
        summary.json             the result, once the run has ended
        purged.json              what was deleted for requests to forget (`strategies.purging`)
        plans.json               of a run that makes rounds again: which, and for which requests
        replayed.json            what came of making its rounds once more, last
        requests/<id>.json       why a request could not be carried out, last
        receipts/<id>.json       of requests that were

A round's folder is complete before its seal is sent; ``seal.json`` follows the receipt. A killed
run therefore finds a round either absent (it is run again, to the same bits), prepared (it is
sealed as it stands) or sealed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from blockchain.canonical import canonical_json, hash_arrays
from blockchain.durable_file import sync_folder, write_durably
from blockchain.merkle import check_hash
from llm.json_nesting import check_nesting
from strategies.scores import ScoreTable
from strategies.signed_update import Opening

AnyArrays = dict[str, NDArray[Any]]


class ArchiveError(RuntimeError):
    """A run's folder lacks something, or holds something other than was written."""


@dataclass(frozen=True)
class ArchivedAttestation:
    """What attestors said of a round.

    Parameters
    ----------
    scores : ScoreTable
        The contribution scores that they agree on.
    signatures : mapping of str to bytes
        By name of the attestor, 65 bytes each.
    landed : dict or None
        Its transaction, once that was confirmed.
    """

    scores: ScoreTable
    signatures: Mapping[str, bytes]
    landed: dict[str, Any] | None

    @property
    def gas_used(self) -> int:
        """Gas of its transaction; 0 before it landed."""
        return int(self.landed["gas_used"]) if self.landed else 0

    @property
    def seconds(self) -> float:
        """Seconds waited for the chain; 0 before it landed."""
        return float(self.landed["seconds"]) if self.landed else 0.0


class RunArchive:
    """The folder of one run.

    Parameters
    ----------
    folder : Path
        ``<home>/runs/<run>``; made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "rounds").mkdir(parents=True, exist_ok=True)
        (folder / "updates").mkdir(exist_ok=True)

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The home the run lies under."""
        return self.folder.parent.parent

    # The run as a whole

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Replace ``run.json``."""
        write_json(self.folder / "run.json", run)

    def read_run(self) -> dict[str, Any]:
        """Return ``run.json``."""
        return read_json(self.folder / "run.json")

    def read_settings(self) -> dict[str, Any]:
        """Return the run configuration that the run was begun with.

        Raises
        ------
        ArchiveError
            If the run failed before it began, or ``run.json`` was altered.
        """
        run = self.read_run()
        settings = run.get("settings")
        if not isinstance(settings, dict):
            reason = run.get("error", f"{self.folder / 'run.json'} names no settings")
            raise ArchiveError(f"run {self.name} has nothing to show: {reason}")
        return settings

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write ``summary.json`` and return its path."""
        path = self.folder / "summary.json"
        write_json(path, summary)
        return path

    def read_summary(self) -> dict[str, Any] | None:
        """Return ``summary.json``; ``None`` before the run has ended."""
        path = self.folder / "summary.json"
        return read_json(path) if path.exists() else None

    # Updates

    def store_update(self, arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
        """Store an update under its canonical hash and return the hash (32 bytes)."""
        digest = hash_arrays(arrays)
        path = self.update_path(digest)
        content = save(_contiguous(arrays))
        if not path.exists() or path.read_bytes() != content:
            write_durably(path, content)
        return digest

    def update_path(self, digest: bytes) -> Path:
        """Where the update of that hash lies."""
        return self.folder / "updates" / f"{digest.hex()}.safetensors"

    def load_update(self, digest: bytes) -> dict[str, NDArray[np.float32]]:
        """Return a stored update.

        Raises
        ------
        ArchiveError
            If the file is missing, unreadable or no longer has that hash.
        """
        path = self.update_path(digest)
        arrays = load_arrays(path)
        # The second test sees a byte that safetensors does not read, such as one of padding.
        if hash_arrays(arrays) != digest or save(_contiguous(arrays)) != path.read_bytes():
            raise ArchiveError(f"{path} was altered: its content no longer has the hash it bears")
        return arrays

    # Rounds

    def round_folder(self, round_number: int) -> Path:
        """Where a round lies, written or not."""
        return self.folder / "rounds" / f"{round_number:04d}"

    def prepare_round(
        self,
        round_number: int,
        *,
        manifest: Callable[[dict[str, str]], Mapping[str, Any]],
        openings: Mapping[str, Opening],
        record: Mapping[str, Any],
        state: Mapping[str, NDArray[Any]],
        save_adapter: Callable[[Path], None],
    ) -> Path:
        """Write everything of a round but its seal, whole or not at all.

        Parameters
        ----------
        round_number : int
            1 for the first; 0 is the state the run starts from.
        manifest : callable
            Given the SHA-256 of every file of adapter and state, hexadecimal by relative path,
            returns what the seal commits to; canonically encodable.
        openings : mapping of str to Opening
            By organization, of the accepted updates.
        record : mapping
            What the seal does not commit to either; any JSON.
        state : mapping of str to ndarray
            The rule's state after the round.
        save_adapter : callable
            Given a folder, writes the global adapter into it.

        Raises
        ------
        ArchiveError
            If the round is there already.
        """
        final = self.round_folder(round_number)
        if final.exists():
            raise ArchiveError(f"{final} is there already: a round is written once")
        partial = final.with_name(final.name + ".partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        write_durably(partial / "state.safetensors", save(_contiguous(state)))
        save_adapter(partial / "adapter")
        files = file_digests(partial)
        write_durably(partial / "manifest.json", canonical_json(manifest(files)))
        write_json(
            partial / "openings.json",
            {
                name: {"update": opening.update_hash.hex(), "salt": opening.salt.hex()}
                for name, opening in openings.items()
            },
        )
        write_json(partial / "record.json", record)
        sync_folder(partial)
        partial.rename(final)
        sync_folder(final.parent)
        return final

    def write_seal(self, round_number: int, seal: Mapping[str, Any]) -> None:
        """Note that the round is on the chain."""
        write_json(self.round_folder(round_number) / "seal.json", seal)

    def is_prepared(self, round_number: int) -> bool:
        """Whether the round's folder was written whole."""
        return self.round_folder(round_number).is_dir()

    def is_sealed(self, round_number: int) -> bool:
        """Whether the round's seal was confirmed and noted."""
        return (self.round_folder(round_number) / "seal.json").is_file()

    def last_prepared_round(self) -> int | None:
        """Return the number of the last round written whole; ``None`` before round 0 is."""
        numbers = [
            int(folder.name)
            for folder in (self.folder / "rounds").iterdir()
            if folder.is_dir() and folder.name.isdigit()
        ]
        return max(numbers, default=None)

    def manifest(self, round_number: int) -> dict[str, Any]:
        """Return a round's manifest.

        Raises
        ------
        ArchiveError
            If it is missing, or not in the one form in which it was hashed and written.
        """
        path = self.round_folder(round_number) / "manifest.json"
        manifest = read_json(path)
        try:
            as_written = canonical_json(manifest)
        except (TypeError, ValueError) as error:
            raise ArchiveError(f"{path} was altered: {error}") from error
        if as_written != path.read_bytes():
            raise ArchiveError(f"{path} was altered: it is not in canonical form")
        return manifest

    def openings(self, round_number: int) -> dict[str, Opening]:
        """Return what opens the commitments of a round's accepted updates, by organization."""
        path = self.round_folder(round_number) / "openings.json"
        try:
            return {
                name: Opening(
                    check_hash(bytes.fromhex(entry["update"]), "update"),
                    check_hash(bytes.fromhex(entry["salt"]), "salt"),
                )
                for name, entry in read_json(path).items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{path} was altered: {error}") from error

    def record(self, round_number: int) -> dict[str, Any]:
        """Return a round's record."""
        return read_json(self.round_folder(round_number) / "record.json")

    def seal(self, round_number: int) -> dict[str, Any]:
        """Return a round's seal."""
        return read_json(self.round_folder(round_number) / "seal.json")

    def write_attestation(
        self,
        round_number: int,
        scores: ScoreTable,
        signatures: Mapping[str, bytes],
        landed: Mapping[str, Any] | None = None,
    ) -> None:
        """Note what attestors said of a round: before it is sent, and again once it landed."""
        write_json(
            self.round_folder(round_number) / "attestation.json",
            {
                "scores": scores.to_json(),
                "signatures": {name: word.hex() for name, word in signatures.items()},
                "landed": None if landed is None else dict(landed),
            },
        )

    def attestation(self, round_number: int) -> ArchivedAttestation | None:
        """Return what attestors said of a round; ``None`` if they have not yet."""
        path = self.round_folder(round_number) / "attestation.json"
        if not path.exists():
            return None
        entry = read_json(path)
        try:
            return ArchivedAttestation(
                scores=ScoreTable.from_json(entry["scores"]),
                signatures={str(n): bytes.fromhex(w) for n, w in entry["signatures"].items()},
                landed=entry["landed"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchiveError(f"{path} was altered: {error}") from error

    def state(self, round_number: int) -> AnyArrays:
        """Return the rule's state after a round."""
        return load_arrays(self.round_folder(round_number) / "state.safetensors")

    def adapter_folder(self, round_number: int) -> Path:
        """Where a round's global adapter lies as a PEFT folder."""
        return self.round_folder(round_number) / "adapter"

    def adapter_arrays(self, round_number: int) -> dict[str, NDArray[np.float32]]:
        """Return a round's global adapter under its PEFT names."""
        return load_arrays(self.adapter_folder(round_number) / "adapter_model.safetensors")


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, hexadecimal, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def newest_run(home: Path, *, unfinished: bool = False) -> RunArchive | None:
    """Return the newest run under a home, or the newest one that did not finish."""
    folders = sorted(
        (p.parent for p in (home / "runs").glob("*/run.json")),
        key=lambda p: (read_json(p / "run.json").get("started", ""), p.name),
        reverse=True,
    )
    for folder in folders:
        # One that another run replaced is no longer to be finished.
        ended = read_json(folder / "run.json").get("status") in ("finished", "replaced")
        if not (unfinished and ended):
            return RunArchive(folder)
    return None


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_durably(path, text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of ours.

    Raises
    ------
    ArchiveError
        If the file is missing or holds anything but a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
        check_nesting(text)
        value = json.loads(text)
    except FileNotFoundError:
        raise ArchiveError(f"{path} is missing") from None
    except ValueError as error:
        raise ArchiveError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArchiveError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read a safetensors file.

    Raises
    ------
    ArchiveError
        If the file is missing or is no safetensors file.
    """
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise ArchiveError(f"{path} is missing") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArchiveError(f"{path} is not a readable safetensors file: {error}") from error


def _contiguous(arrays: Mapping[str, NDArray[Any]]) -> AnyArrays:
    # safetensors writes an array's buffer as it lies: a transposed view would be stored wrong.
    return {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
