"""An organization's own records: the embedded ones, its own file, or its part of a shared set."""

from functools import lru_cache
from pathlib import Path

from llm.datasets import (
    DataSettings,
    EmbeddedSource,
    FileSource,
    HubSource,
    load_organization,
)
from llm.embedded_data import ORGANIZATIONS
from llm.rows import DataError
from llm.splits import OrganizationData
from strategies.row_form import row_form
from strategies.setting_values import EMBEDDED_DATA, HUB_DATA
from strategies.settings import RunSettings


def load_own_data(settings: RunSettings, organization: str, cache: Path) -> OrganizationData:
    """Return an organization's train, validation and test records.

    Raises
    ------
    DataError
        If there is no such data, or a row is malformed: the message names file and line.
    RegistryError, CacheError
        If the embedded data cannot be had.
    """
    if settings.partition == "none":
        return _whole(settings, organization, cache)
    # Loads flwr-datasets and what it draws in, which only experiments need.
    from client_app.shared_data import load_parts  # noqa: PLC0415

    return load_parts(settings, cache)[organization]


def data_settings(settings: RunSettings, organization: str) -> DataSettings:
    """Return where an organization's records come from.

    Raises
    ------
    DataError
        If an embedded organization is asked for that does not exist.
    """
    data = settings.data.replace("{organization}", organization)
    if data == EMBEDDED_DATA:
        data = f"{EMBEDDED_DATA}:{organization}"
    kind, _, name = data.partition(":")
    if kind == EMBEDDED_DATA:
        if name not in ORGANIZATIONS:
            raise DataError(
                f"there is no embedded data of {name!r}: expected one of "
                f"{', '.join(ORGANIZATIONS)}, or set data to a file"
            )
        return DataSettings(
            name=organization,
            domain=ORGANIZATIONS[name].domain,
            source=EmbeddedSource.model_validate({"organization": name}),
        )
    fields = settings.data_field_names
    form = row_form(settings)
    if kind == HUB_DATA:
        path, _, config = name.partition(":")
        return DataSettings(
            name=organization,
            domain=path,
            source=HubSource(
                path=path,
                config=config or None,
                form=form,
                id_field=fields.get("id"),
                group_field=fields.get("group"),
            ),
        )
    return DataSettings(
        name=organization,
        domain=Path(data).stem,
        source=FileSource(
            path=Path(data),
            form=form,
            id_field=fields.get("id"),
            group_field=fields.get("group"),
        ),
    )


@lru_cache(maxsize=16)
def _whole(settings: RunSettings, organization: str, cache: Path) -> OrganizationData:
    return load_organization(data_settings(settings, organization), cache)
