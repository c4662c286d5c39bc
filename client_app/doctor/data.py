"""The organization's records: what a run would say of them, and never what is in them."""

from pathlib import Path

from client_app.doctor.check import Finding, holds
from client_app.doctor.machine import Machine
from client_app.own_data import data_settings
from llm.datasets import FileSource, HubSource, load_organization
from llm.embedded_data import PACKAGE, is_cached
from llm.rows import DataError, read_rows


def data(machine: Machine) -> Finding:
    """Read the rows, whatever they mean."""
    source = data_settings(machine.settings, machine.name).source
    if isinstance(source, FileSource):
        return holds(f"{_count(source.path)} rows in {source.path}")
    if isinstance(source, HubSource):
        return holds(f"{source.path}: the first run fetches what is not cached")
    if not is_cached(machine.cache):
        return holds(f"embedded: the first run fetches {PACKAGE.size / 1e6:.1f} MB")
    return holds(f"embedded: in {machine.cache}")


def records(machine: Machine) -> Finding:
    """Make records of the rows as a run does, in the form that the coordinator names."""
    settings = data_settings(machine.run_settings, machine.name)
    source = settings.source
    if isinstance(source, HubSource) or (
        not isinstance(source, FileSource) and not is_cached(machine.cache)
    ):
        return holds("not read: they would have to be fetched")
    # Past what this process may have read before: the file may have been changed since.
    own = load_organization(settings, machine.cache)
    return holds(
        f"{len(own.train)} to train on, {len(own.validation)} to validate, {len(own.test)} to test"
    )


def _count(path: Path) -> int:
    try:
        return sum(1 for _ in read_rows(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
