"""Train, validation and test rows of one organization, assigned group by group."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm.keyed_hash import keyed_hash
from llm.records import Record

_PURPOSE = "foedus/split/v1"


@dataclass(frozen=True)
class OrganizationData:
    """One organization's records.

    Parameters
    ----------
    name : str
        The organization.
    domain : str
        What its texts are, for people.
    train, validation, test : tuple of Record
        Disjoint; no group is in two of them.

    Raises
    ------
    ValueError
        If two records share an id, or a group lies in two splits.
    """

    name: str
    domain: str
    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        split_of_group: dict[str, str] = {}
        for split in ("train", "validation", "test"):
            for record in getattr(self, split):
                if record.id in seen:
                    raise ValueError(f"{self.name}: two records share the id {record.id!r}")
                seen.add(record.id)
                if record.group and split_of_group.setdefault(record.group, split) != split:
                    raise ValueError(
                        f"{self.name}: group {record.group!r} lies in {split} and in "
                        f"{split_of_group[record.group]}"
                    )


class SplitShares(BaseModel):
    """Which share of the groups goes where; the rest is for training.

    Parameters
    ----------
    validation, test : float
        Shares, each in [0, 1).
    withheld : float
        Share kept out of all three, as the embedded data's public validation set is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    withheld: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.validation + self.test + self.withheld >= 1:
            raise ValueError(
                f"validation {self.validation}, test {self.test} and withheld {self.withheld} "
                "leave nothing to train on: expected a sum below 1"
            )
        return self


@dataclass(frozen=True)
class Split:
    """Records by what they are for."""

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]
    withheld: tuple[Record, ...]


def split_records(records: Iterable[Record], shares: SplitShares, *, key: str) -> Split:
    """Assign each record by a keyed hash of its group, or of its id where it has none.

    Where a record goes depends on nothing but its own group, ``shares`` and ``key``: adding or
    removing records moves no other. Hence shares hold on average, not exactly.

    Parameters
    ----------
    records : iterable of Record
        In any order; the order is kept within each split.
    shares : SplitShares
        How much goes where.
    key : str
        Names the assignment: another key gives another split.
    """
    test_ends = shares.withheld + shares.test
    validation_ends = test_ends + shares.validation
    split: dict[str, list[Record]] = {name: [] for name in ("train", "validation", "test", "held")}
    for record in records:
        value = keyed_hash(key.encode("utf-8"), _PURPOSE, record.split_key)
        # 53 bits: exactly what a float holds, so that the position is below 1 on any machine.
        position = (int.from_bytes(value[:8], "big") >> 11) / (1 << 53)
        if position < shares.withheld:
            split["held"].append(record)
        elif position < test_ends:
            split["test"].append(record)
        elif position < validation_ends:
            split["validation"].append(record)
        else:
            split["train"].append(record)
    return Split(
        train=tuple(split["train"]),
        validation=tuple(split["validation"]),
        test=tuple(split["test"]),
        withheld=tuple(split["held"]),
    )
