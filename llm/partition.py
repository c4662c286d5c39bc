"""One data set split among organizations, for experiments, by flwr-datasets' partitioners."""

import warnings
from collections.abc import Sequence
from typing import Annotated, Literal

import datasets
from flwr_datasets.partitioner import (
    DirichletPartitioner,
    IidPartitioner,
    NaturalIdPartitioner,
    Partitioner,
)
from pydantic import BaseModel, ConfigDict, Field

from llm.keyed_hash import keyed_hash
from llm.records import Record
from llm.rows import DataError

_PURPOSE = "foedus/partition/v1"


class _Partition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IidPartition(_Partition):
    """Equal parts at random."""

    kind: Literal["iid"] = "iid"


class DirichletPartition(_Partition):
    """Parts whose shares of each label are drawn from a Dirichlet distribution.

    Parameters
    ----------
    alpha : float
        Above 0: small values give each organization few labels, large ones equal shares.
    least : int
        Fewest records an organization gets; drawn again, up to ten times, until it holds.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = Field(gt=0, le=1e6)
    least: int = Field(default=10, ge=1)


class GroupPartition(_Partition):
    """Whole groups: the rows of one value of the data's group field stay together.

    Where there are more groups than organizations, each gets a run of them in sorted order.
    """

    kind: Literal["group"] = "group"


Partition = Annotated[
    IidPartition | DirichletPartition | GroupPartition, Field(discriminator="kind")
]


def partition(
    records: Sequence[Record],
    organizations: Sequence[str],
    how: IidPartition | DirichletPartition | GroupPartition,
    *,
    seed: int,
) -> dict[str, tuple[Record, ...]]:
    """Give every record to exactly one organization.

    Split the parts into train and test afterwards, with one split key: then no group is in one
    organization's training and in another's test records.

    Parameters
    ----------
    records : sequence of Record
        All records; their order does not matter.
    organizations : sequence of str
        Distinct names.
    how : IidPartition or DirichletPartition or GroupPartition
        The rule.
    seed : int
        64-bit; the same seed gives the same parts.

    Returns
    -------
    dict of str to tuple of Record
        In the order of ``organizations``.

    Raises
    ------
    DataError
        If there are fewer records, groups or labels than the rule needs, or names repeat.
    """
    if not organizations or len(set(organizations)) != len(organizations):
        raise DataError(f"organizations {list(organizations)}: expected distinct names")
    if len(records) < len(organizations):
        raise DataError(f"{len(records)} records cannot be split among {len(organizations)}")
    shuffled = sorted(records, key=lambda record: _position(record, seed))
    partitioner = _partitioner(shuffled, len(organizations), how, seed)
    try:
        with warnings.catch_warnings():
            # Drawing again is declared above, and not a reason to warn at every try.
            warnings.filterwarnings("ignore", "The specified min_partition_size", UserWarning)
            return {
                name: tuple(shuffled[index] for index in partitioner.load_partition(part)["index"])
                for part, name in enumerate(organizations)
            }
    except ValueError as error:
        raise DataError(
            f"{len(records)} records cannot be split among {len(organizations)} by {how!r}: {error}"
        ) from None


def _position(record: Record, seed: int) -> tuple[bytes, str]:
    return keyed_hash(b"", _PURPOSE, seed, record.id), record.id


def _partitioner(
    records: Sequence[Record],
    parts: int,
    how: IidPartition | DirichletPartition | GroupPartition,
    seed: int,
) -> Partitioner:
    order = list(range(len(records)))
    column: dict[str, list[str] | list[int]] = {}
    partitioner: Partitioner
    match how:
        case IidPartition():
            partitioner = IidPartitioner(num_partitions=parts)
        case DirichletPartition():
            column["label"] = [_label(record) for record in records]
            partitioner = DirichletPartitioner(
                num_partitions=parts,
                partition_by="label",
                alpha=how.alpha,
                min_partition_size=how.least,
                self_balancing=False,
                seed=seed % (1 << 64),  # numpy takes no negative seed
            )
        case GroupPartition():
            part_of = _part_of_group(records, parts)
            order.sort(key=lambda index: part_of[records[index].split_key])
            # The partitioner numbers its parts as they first occur: sorted, that is 0, 1, 2, ...
            column["part"] = [part_of[records[index].split_key] for index in order]
            partitioner = NaturalIdPartitioner(partition_by="part")
    partitioner.dataset = datasets.Dataset.from_dict({"index": order, **column})
    return partitioner


def _part_of_group(records: Sequence[Record], parts: int) -> dict[str, int]:
    groups = sorted({record.split_key for record in records})
    if len(groups) < parts:
        raise DataError(f"{len(groups)} groups cannot be split among {parts} organizations")
    return {group: rank * parts // len(groups) for rank, group in enumerate(groups)}


def _label(record: Record) -> str:
    if not record.choices:
        raise DataError("a split by label needs records with labels: use the text-label form")
    return record.completion
