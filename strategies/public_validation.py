"""The public validation set: rows that no organization trains on, drawn once for a whole run.

Everybody who attests must score on the very same rows, so they are drawn by a keyed hash of the
run's seed, and their hash stands among the terms.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from blockchain.canonical import hash_json
from llm.datasets import DataSettings, FileSource, load_records
from llm.embedded_data import public_validation
from llm.keyed_hash import encoded, keyed_hash
from llm.progress import Progress, silent
from llm.records import Record
from llm.rows import DataError
from strategies.handed_out import HandedOut
from strategies.row_form import row_form
from strategies.setting_values import EMBEDDED_DATA, NO_VALIDATION
from strategies.settings import RunSettings

_PURPOSE: Final = "foedus/public-validation/v1"

#: The term that holds the set's hash, hexadecimal; empty where contributions are not scored.
VALIDATION_TERM: Final = "public-validation-hash"


@dataclass(frozen=True)
class PublicValidation:
    """Rows that contributions are scored on.

    Parameters
    ----------
    records : tuple of Record
        Sorted by id, at least one.
    """

    records: tuple[Record, ...]

    def hash(self) -> bytes:
        """Return the hash of ids and contents in canonical encoding, 32 bytes."""
        return hash_json({"version": 1, "records": [_laid_out(record) for record in self.records]})


@lru_cache(maxsize=2)
def public_validation_set(
    settings: RunSettings, cache: Path, progress: Progress = silent
) -> PublicValidation | None:
    """Load and draw a run's public validation set.

    Parameters
    ----------
    settings : RunSettings
        The run's settings; the draw depends on ``seed`` and ``public-validation-records``.
    cache : Path
        Foedus' cache folder, for the embedded data.
    progress : Progress, optional
        Told of downloads.

    Returns
    -------
    PublicValidation or None
        None where contributions are not scored: by ``none``, or because the rows would be the
        embedded data's and the organizations' own are others, on which they say nothing.

    Raises
    ------
    DataError
        If a file is missing or malformed; the message names the place.
    RegistryError, CacheError
        If the embedded data cannot be had or stored.
    """
    where = settings.public_validation
    kind, _, name = settings.data.partition(":")
    if where == NO_VALIDATION or (where == EMBEDDED_DATA and kind != EMBEDDED_DATA):
        return None
    if where == EMBEDDED_DATA:
        domains: Mapping[str, Sequence[Record]] = public_validation(cache, progress)
        # One domain shared out for an experiment: the others' rows would measure something else.
        domains = {domain: rows for domain, rows in domains.items() if name in ("", domain)}
    else:
        domains = {"": _file_records(settings, cache)}
    drawn = balanced_draw(domains, settings.public_validation_records, seed=settings.seed)
    if not drawn:
        raise DataError(f"there is no embedded data of {name!r} to score contributions on")
    return PublicValidation(drawn)


def validation_terms(validation: PublicValidation | None) -> dict[str, Any]:
    """Return what the terms say of the set beside the settings."""
    return {VALIDATION_TERM: "" if validation is None else validation.hash().hex()}


def balanced_draw(
    domains: Mapping[str, Sequence[Record]], count: int, *, seed: int
) -> tuple[Record, ...]:
    """Draw the same number of records from every domain, or as near to it as there are records.

    Within a domain those of the smallest HMAC-SHA256 of domain and id under the seed are drawn, as
    :mod:`llm.draw` does: the result depends neither on the order of the records, nor on records
    that are not drawn. What ``count`` leaves over goes to the first domains by name.

    Parameters
    ----------
    domains : mapping of str to sequence of Record
        By domain; ids all different.
    count : int
        How many to draw in all; all are drawn where there are fewer.
    seed : int
        The run's, 64-bit signed.

    Returns
    -------
    tuple of Record
        Sorted by id.
    """
    key = encoded(_PURPOSE, seed)
    ranked = []
    for domain in sorted(domains):
        valued = sorted(
            (keyed_hash(key, _PURPOSE, domain, record.id), record.id, record)
            for record in domains[domain]
        )
        ranked += [(position, domain, record) for position, (_, _, record) in enumerate(valued)]
    drawn = heapq.nsmallest(count, ranked, key=lambda item: item[:2])
    return tuple(sorted((record for _, _, record in drawn), key=lambda record: record.id))


def _file_records(settings: RunSettings, cache: Path) -> tuple[Record, ...]:
    fields = settings.data_field_names
    handed = HandedOut.of(settings.public_validation)
    source = FileSource(
        path=Path(settings.public_validation)
        if handed is None
        else handed.present(settings.home_path),
        form=row_form(settings),
        id_field=fields.get("id"),
        group_field=fields.get("group"),
    )
    return load_records(DataSettings(name="public validation", source=source), cache)


def _laid_out(record: Record) -> dict[str, Any]:
    prompt = record.prompt
    return {
        "id": record.id,
        "prompt": prompt
        if isinstance(prompt, str)
        else [[message.role, message.content] for message in prompt],
        "completion": record.completion,
        "choices": list(record.choices),
    }
