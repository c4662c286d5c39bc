"""For experiments: one data set shared out among the organizations of a run."""

from functools import lru_cache
from pathlib import Path

from client_app.own_data import data_settings
from llm.datasets import load_records, organization_of
from llm.partition import (
    DirichletPartition,
    GroupPartition,
    IidPartition,
    Partition,
    partition,
)
from llm.splits import OrganizationData
from strategies.settings import RunSettings


@lru_cache(maxsize=1)
def load_parts(settings: RunSettings, cache: Path) -> dict[str, OrganizationData]:
    """Split one data set among the organizations, groups kept whole within each part's splits."""
    where = data_settings(settings, settings.organization_names[0])
    parts = partition(
        load_records(where, cache),
        settings.organization_names,
        _partition(settings),
        seed=settings.seed,
    )
    return {name: organization_of(where, name, records) for name, records in parts.items()}


def _partition(settings: RunSettings) -> Partition:
    match settings.partition:
        case "iid":
            return IidPartition()
        case "dirichlet":
            return DirichletPartition(alpha=settings.partition_alpha)
        case _:
            return GroupPartition()
