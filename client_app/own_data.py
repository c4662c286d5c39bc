"""An organization's own records: the embedded ones, its own file, or its part of a shared set."""

from functools import lru_cache
from pathlib import Path

from llm.embedded_data import embedded_organization
from llm.splits import OrganizationData
from strategies.settings import RunSettings


@lru_cache(maxsize=8)
def load_own_data(settings: RunSettings, organization: str, cache: Path) -> OrganizationData:
    """Return an organization's train, validation and test records."""
    return embedded_organization(organization, cache)
