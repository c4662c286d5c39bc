"""Who holds which records, and on which everybody's model is evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.experiments.experiment import Experiment
from benchmarks.unlearning.holdings import as_completion
from client_app.own_data import load_own_data
from llm.draw import draw
from llm.embedded_data import ORGANIZATIONS
from llm.keyed_hash import keyed_hash
from llm.records import Record
from llm.rows import DataError
from llm.splits import OrganizationData
from strategies.settings import RunSettings

_HALVES = "foedus/benchmark/halves/v1"

#: Rows that everybody has of a split by label. Of fewer its accuracy would be next to nothing's.
_LEAST_TRAINED: Final = 100
_LEAST_TESTED: Final = 20
#: How often a split is drawn, and how far apart the draws' seeds are.
_DRAWS: Final = 200
_NEXT_DRAW: Final = 1_000_000


@dataclass(frozen=True)
class Holders:
    """The records of a world.

    Parameters
    ----------
    train : mapping of str to tuple of Record
        By organization.
    test : mapping of str to tuple of Record
        By organization, or by domain where that is split in halves; nobody trains on them.
    """

    train: Mapping[str, tuple[Record, ...]]
    test: Mapping[str, tuple[Record, ...]]

    def federations(self, together: str) -> list[dict[str, tuple[Record, ...]]]:
        """Return who trains with whom, each with what it holds.

        Organizations that train alone are a federation of one each; rows in one place are one of
        somebody who holds all of them.
        """
        if together == "federated":
            return [dict(self.train)]
        if together == "alone":
            return [{name: records} for name, records in self.train.items()]
        return [{"everybody": tuple(one for records in self.train.values() for one in records)}]


def holders(experiment: Experiment, cache: Path) -> Holders:
    """Return an experiment's records.

    Raises
    ------
    RegistryError, CacheError
        If the embedded data cannot be had.
    DataError
        If they cannot be split that way.
    """
    run = experiment.run(experiment.names)
    if experiment.world == "halves":
        return _halves(run, experiment.test_rows, cache)
    if experiment.alpha is None:
        own = {name: load_own_data(run, name, cache) for name in experiment.names}
    else:
        own = _split_by_label(experiment, run, cache)
    train = {name: data.train for name, data in own.items()}
    if experiment.pool is not None:
        train = {name: _drawn(rows, experiment.pool, run, name) for name, rows in train.items()}
    test = {name: _drawn(data.test, experiment.test_rows, run, name) for name, data in own.items()}
    if experiment.form == "text":
        train, test = (
            {name: _as_texts(name, rows) for name, rows in part.items()} for part in (train, test)
        )
    return Holders(train, test)


def _split_by_label(
    experiment: Experiment, run: RunSettings, cache: Path
) -> dict[str, OrganizationData]:
    """Split one domain by a Dirichlet distribution, again until everybody has enough rows."""
    refused: DataError | None = None
    for redrawn in range(_DRAWS):
        split = RunSettings(
            organizations=run.organizations,
            seed=run.seed + redrawn * _NEXT_DRAW,
            data=f"embedded:{experiment.world}",
            partition="dirichlet",
            partition_alpha=experiment.alpha,
            public_validation="none",
        )
        try:
            own = {name: load_own_data(split, name, cache) for name in experiment.names}
        except DataError as error:
            # Somebody has too few rows for one to fall into each part.
            refused = error
            continue
        if all(
            len(data.train) >= _LEAST_TRAINED and len(data.test) >= _LEAST_TESTED
            for data in own.values()
        ):
            return own
    raise DataError(
        f"{experiment.world}, Dirichlet {experiment.alpha:g}, seed {run.seed}: none of {_DRAWS} "
        f"splits gives everybody {_LEAST_TRAINED} rows to train on and {_LEAST_TESTED} to test on"
    ) from refused


def _as_texts(name: str, records: Sequence[Record]) -> tuple[Record, ...]:
    before, _, after = ORGANIZATIONS[name].prompt("{text}").partition("{text}")
    return tuple(as_completion(record, before, after) for record in records)


def _halves(run: RunSettings, test_rows: int, cache: Path) -> Holders:
    """Split each domain's documents in two; what they are evaluated on is the domain's."""
    train: dict[str, tuple[Record, ...]] = {}
    test: dict[str, tuple[Record, ...]] = {}
    for domain in ORGANIZATIONS:
        data = load_own_data(run, domain, cache)
        second = [keyed_hash(b"", _HALVES, record.split_key)[0] & 1 for record in data.train]
        for half, wanted in (("a", 0), ("b", 1)):
            train[f"{domain}-{half}"] = tuple(
                record for record, side in zip(data.train, second, strict=True) if side == wanted
            )
        test[domain] = _drawn(data.test, test_rows, run, domain)
    return Holders(train, test)


def _drawn(
    records: Sequence[Record], count: int, run: RunSettings, name: str
) -> tuple[Record, ...]:
    return tuple(draw(records, count, seed=run.seed, round=0, organization=name))
