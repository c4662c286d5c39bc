"""The records as the untouched base reads them: the same for every model, so they are read once."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from safetensors.numpy import save

from blockchain.durable_file import write_durably
from llm.base_model import BaseModel
from llm.records import Record
from strategies.run_archive import load_arrays
from unlearning.verification import TokenStatistics, gather_statistics


def base_readings(
    base: BaseModel, records: Sequence[Record], folder: Path, *, max_tokens: int
) -> dict[str, TokenStatistics]:
    """Return the statistics of records under the base without an adapter, by record id.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    records : sequence of Record
        What to read.
    folder : Path
        Where readings are kept, for all cells.
    max_tokens : int
        Longest record.

    Returns
    -------
    dict of str to TokenStatistics
        Without choices: attacks ask for none.
    """
    path = folder / f"base-{base.fingerprint[:10]}-{base.compute_dtype}-{max_tokens}.safetensors"
    keys = {record.id: _key(record) for record in records}
    with FileLock(path.with_name(f".{path.name}.lock")):
        known = load_arrays(path) if path.exists() else {}
        missing = [record for record in records if keys[record.id] not in known]
        if missing:
            read = gather_statistics(base, missing, max_tokens=max_tokens)
            known |= {keys[name]: _array(one) for name, one in read.items()}
            write_durably(path, save(known))
    return {name: _statistics(known[key]) for name, key in keys.items()}


def _key(record: Record) -> str:
    """Name a record by what it says: another form of it has the same id."""
    content = f"{record.prompt!r}\0{record.completion!r}"
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _array(one: TokenStatistics) -> np.ndarray:
    return np.stack([one.log_probabilities, one.means, one.deviations, one.greedy])


def _statistics(array: np.ndarray) -> TokenStatistics:
    log_probabilities, means, deviations, greedy = array
    return TokenStatistics(log_probabilities, means, deviations, greedy == 1)


Readings = Mapping[str, TokenStatistics]
