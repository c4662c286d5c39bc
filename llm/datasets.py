"""An organization's data: embedded, from its own file, or from the Hugging Face hub."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm import embedded_data
from llm.forms import Form, name_field
from llm.keyed_hash import encoded
from llm.near_duplicates import normalized
from llm.progress import Progress, silent
from llm.records import Record, RecordError
from llm.rows import MAX_ROWS, DataError, Row, read_rows
from llm.splits import OrganizationData, Split, SplitShares, split_records


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EmbeddedSource(_Settings):
    """One of the four embedded organizations; its form and split are given.

    Parameters
    ----------
    organization : {"cinema", "microblog", "shop", "newspaper"}
        Which.
    """

    kind: Literal["embedded"] = "embedded"
    organization: Literal["cinema", "microblog", "shop", "newspaper"]


class _RowSource(_Settings):
    form: Form
    id_field: str | None = None
    group_field: str | None = None
    shares: SplitShares = SplitShares()
    split_key: str = "foedus"


class FileSource(_RowSource):
    """A file of the organization's own.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` or ``.csv`` file, UTF-8.
    form : TextLabelForm or PromptCompletionForm or ChatForm
        How a row becomes a record.
    id_field : str, optional
        The field with the record's id. Without it the id is a hash of the record's content.
    group_field : str, optional
        The field that names the document a row belongs to. Without it, rows whose prompts differ
        in case, punctuation and spacing alone form a group.
    shares : SplitShares, optional
        Sizes of the splits.
    split_key : str, optional
        Another key gives another split.
    """

    kind: Literal["file"] = "file"
    path: Path


class HubSource(_RowSource):
    """A data set of the Hugging Face hub, or a local folder that ``datasets`` can load.

    Parameters
    ----------
    path : str
        Such as ``stanfordnlp/imdb``.
    config : str, optional
        The configuration, where the data set has several.
    split : str
        Whose rows are used; Foedus makes its own train, validation and test of them.
    revision : str, optional
        A commit: without it, the newest.
    form, id_field, group_field, shares, split_key
        As for :class:`FileSource`.
    """

    kind: Literal["hub"] = "hub"
    path: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None


class DataSettings(_Settings):
    """An organization and where its records come from.

    Parameters
    ----------
    name : str
        The organization.
    domain : str, optional
        What its texts are, for people.
    source : EmbeddedSource or FileSource or HubSource
        Told apart by ``kind``.
    """

    name: str = Field(min_length=1, max_length=100)
    domain: str = ""
    source: Annotated[EmbeddedSource | FileSource | HubSource, Field(discriminator="kind")]


def load_organization(
    settings: DataSettings, cache: Path, progress: Progress = silent
) -> OrganizationData:
    """Load an organization's records and split them.

    Parameters
    ----------
    settings : DataSettings
        What to load.
    cache : Path
        Foedus' cache folder, for the embedded data.
    progress : Progress, optional
        Told of downloads.

    Raises
    ------
    DataError
        If a row is malformed (the message names its place), or a split would be empty.
    RegistryError, CacheError
        If embedded data cannot be had or stored.
    """
    records = load_records(settings, cache, progress)
    return organization_of(settings, settings.name, records)


def organization_of(
    settings: DataSettings, name: str, records: Iterable[Record]
) -> OrganizationData:
    """Split records that ``settings`` describe, all of them or one organization's part.

    Raises
    ------
    DataError
        If a split that should hold records would be empty.
    """
    split, shares, domain = _split(settings, records)
    for purpose, share, part in (
        ("training", 1.0, split.train),
        ("validation", shares.validation, split.validation),
        ("test", shares.test, split.test),
    ):
        if share > 0 and not part:
            raise DataError(
                f"{name}: no record falls into the {purpose} split (share {share:g}); "
                "give more records or groups, or another share"
            )
    return OrganizationData(name, domain, split.train, split.validation, split.test)


def withheld_records(settings: DataSettings, records: Iterable[Record]) -> tuple[Record, ...]:
    """Select the records that belong to no organization: the public validation set."""
    return _split(settings, records)[0].withheld


def load_records(
    settings: DataSettings, cache: Path, progress: Progress = silent
) -> tuple[Record, ...]:
    """Load all records that ``settings`` describe, in the source's order, unsplit.

    Raises
    ------
    DataError
        If a row is malformed; the message names its place and never repeats its content.
    RegistryError, CacheError
        If embedded data cannot be had or stored.
    """
    source = settings.source
    if isinstance(source, EmbeddedSource):
        return embedded_data.embedded_records(source.organization, cache, progress)
    rows = read_rows(source.path) if isinstance(source, FileSource) else _hub_rows(source)
    records = tuple(_records(rows, source))
    if not records:
        raise DataError(f"{source.path}: no rows")
    return records


def _split(settings: DataSettings, records: Iterable[Record]) -> tuple[Split, SplitShares, str]:
    source = settings.source
    if isinstance(source, EmbeddedSource):
        embedded = embedded_data.ORGANIZATIONS[source.organization]
        split = split_records(records, embedded.shares, key=embedded_data.SPLIT_KEY)
        return split, embedded.shares, settings.domain or embedded.domain
    split = split_records(records, source.shares, key=source.split_key)
    return split, source.shares, settings.domain


def _records(rows: Iterable[Row], source: _RowSource) -> Iterator[Record]:
    place_of_id: dict[str, str] = {}
    occurrences: Counter[str] = Counter()
    for row in rows:
        try:
            record = _record(row.fields, source, occurrences)
        except RecordError as error:
            raise DataError(f"{row.place}: {error}") from None
        if record.id in place_of_id:
            raise DataError(f"{row.place}: the id is used already at {place_of_id[record.id]}")
        place_of_id[record.id] = row.place
        yield record


def _record(fields: Mapping[str, object], source: _RowSource, occurrences: Counter[str]) -> Record:
    identifier = name_field(fields, source.id_field) if source.id_field else "to be derived"
    group = name_field(fields, source.group_field) if source.group_field else ""
    record = source.form.record(fields, id=identifier, group=group)
    if source.id_field is None:
        content = content_id(record)
        occurrences[content] += 1
        repeated = "" if occurrences[content] == 1 else f"-{occurrences[content]}"
        record = replace(record, id=content + repeated)
    return record if group else replace(record, group=_text_group(record))


def content_id(record: Record) -> str:
    """Derive an id from what a record says: 128 bits of SHA-256 over prompt and completion.

    The same content has the same id in any file and at any place in it. Whoever sees such an id
    and guesses the content can confirm the guess.
    """
    return "content-" + hashlib.sha256(_content(record)).hexdigest()[:32]


def _content(record: Record) -> bytes:
    if isinstance(record.prompt, str):
        return encoded("text", record.prompt, record.completion)
    turns = [part for message in record.prompt for part in (message.role, message.content)]
    return encoded("chat", len(record.prompt), *turns, record.completion)


def _text_group(record: Record) -> str:
    prompt = record.prompt
    text = prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)
    return "text-" + hashlib.sha256(normalized(text).encode("utf-8")).hexdigest()[:32]


def _hub_rows(source: HubSource) -> Iterator[Row]:
    # Loads arrow and all of pandas, which no other source needs.
    import datasets as hub  # noqa: PLC0415

    try:
        table = hub.load_dataset(
            source.path, source.config, split=source.split, revision=source.revision
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"hub data set {source.path!r} could not be loaded: {str(error)[:300]}. Check name, "
            "config and split; without a network, use a file or a folder on this machine"
        ) from None
    if len(table) > MAX_ROWS:
        raise DataError(f"hub data set {source.path!r}: more than {MAX_ROWS:,} rows")
    for number, fields in enumerate(table, start=1):
        yield Row(f"{source.path}[{source.split}] row {number}", fields)
