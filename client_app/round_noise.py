"""The noise of a round's private training: from a secret of the organization's own."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blockchain.canonical import hash_arrays
from blockchain.durable_file import write_durably
from client_app.own_ledger import record_digest
from client_app.request import Request
from llm.factors import Arrays
from llm.keyed_hash import encoded
from llm.private_gradients import Noise
from llm.records import Record
from strategies.organization_key import key_folder

_PURPOSE: Final = "foedus/noise/v1"
_BYTES: Final = 32


class NoiseKeyError(ValueError):
    """What lies where the secret should is none."""


def round_noise(
    home: Path,
    organization: str,
    request: Request,
    start: Arrays,
    rank: int,
    records: Sequence[Record],
) -> Noise:
    """Return a round's noise: the same for the same task, round, start, rank and records.

    Hence whoever has the secret can make a round again to the same bits. Anything else is noised
    otherwise, records that are drawn in the place of forgotten ones above all: with the same noise
    the difference of two updates would lay open what the noise is to hide.

    Parameters
    ----------
    home : Path
        The home under which the organization's keys lie.
    organization : str
        Its name.
    request : Request
        Of the round.
    start : dict of str to ndarray
        The adapter that training starts from.
    rank : int
        What of it is trained.
    records : sequence of Record
        What is trained on, in any order.

    Raises
    ------
    NoiseKeyError
        If the file of the secret was altered.
    """
    drawn = sorted((record.id, record_digest(record).hex()) for record in records)
    content = hashlib.sha256(encoded(*(part for pair in drawn for part in pair))).hexdigest()
    what = encoded(
        _PURPOSE,
        organization,
        request.task.hex(),
        request.round,
        hash_arrays(start).hex(),
        rank,
        content,
    )
    return Noise(hmac.digest(_secret(key_folder(home, organization)), what, "sha256"))


def _secret(folder: Path) -> bytes:
    """Read the organization's secret, making it the first time."""
    path = folder / "noise.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, secrets.token_bytes(_BYTES), mode=0o600)
    secret = path.read_bytes()
    if len(secret) != _BYTES:
        raise NoiseKeyError(f"{path}: {len(secret)} bytes, expected {_BYTES}")
    return secret
