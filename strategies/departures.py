"""Organizations that left the federation: a run's settings without them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from blockchain.membership import Membership
from blockchain.merkle import organization_id
from strategies.settings import RunSettings


def departures(members: Membership, names: Sequence[str]) -> dict[str, int]:
    """Return which of some organizations have left, and in which block each did."""
    left = {name: members.member(organization_id(name)).left_in for name in names}
    return {name: block for name, block in left.items() if block is not None}


def settings_without(settings: RunSettings, gone: Collection[str]) -> dict[str, Any]:
    """Return the settings that name organizations, without some of them, under their keys.

    Attestors that follow from the organizations stay those that they were: who takes a place among
    the first is no attestor by that.
    """
    return {
        "organizations": _listed(settings.organization_names, gone),
        "attestors": _listed(settings.attestor_names, gone),
        "ranks": _paired(settings.ranks_given, gone),
        "token-prices": _paired(settings.token_prices_given, gone),
    }


def _listed(names: Sequence[str], gone: Collection[str]) -> str:
    return ",".join(name for name in names if name not in gone)


def _paired(values: Mapping[str, int], gone: Collection[str]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items() if name not in gone)
