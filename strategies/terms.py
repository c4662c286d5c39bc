"""The terms of a task: what the parties agree on before the first round, hashed on chain."""

from collections.abc import Mapping
from typing import Any

from blockchain.canonical import hash_json
from strategies.settings import RunSettings, SettingsError

TERMS_VERSION = 1

#: Settings that say where and how a run is carried out, not what was agreed.
_LOCAL = frozenset(
    {
        "mode",
        "home",
        "run-name",
        "resume",
        "chain-url",
        "chain-port",
        "anchor-interval",
        "participation",
        "token-price",
        "token-prices",
        "token-budget",
        "budget-epoch",
        "backup-days",
    }
)

#: Settings that are terms where they differ from their default: the terms of a run that does not
#: use them are what they were before these settings were there.
_WHERE_GIVEN = frozenset(
    {
        "bundle",
        "lineage",
        "requests",
        "unlearners",
        "leavers",
        "forgetting-method",
        "forgetting-epochs",
        "forgetting-learning-rate",
        "recovery-rounds",
        "record-recovery-rounds",
        "recovery-projection",
        "isolation",
        "privacy-epsilon",
        "privacy-delta",
        "privacy-clip",
    }
)
_DEFAULTS = RunSettings().to_run_config()


def terms_of(settings: RunSettings, *, run: str, model_fingerprint: str) -> dict[str, Any]:
    """Return the terms, canonically encodable: floats stand in their exact hexadecimal form.

    Parameters
    ----------
    settings : RunSettings
        The run's settings.
    run : str
        The run's name: two runs are two tasks, however alike.
    model_fingerprint : str
        SHA-256 over the base model's files, hexadecimal.
    """
    agreed = agreed_settings(settings)
    return {"version": TERMS_VERSION, "run": run, "model-fingerprint": model_fingerprint, **agreed}


def agreed_settings(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that are terms, by key; floats in their exact hexadecimal form."""
    return {
        key: value.hex() if isinstance(value, float) else value
        for key, value in agreed_config(settings).items()
        if key not in _WHERE_GIVEN or value != _DEFAULTS[key]
    }


def agreed_config(settings: RunSettings) -> dict[str, Any]:
    """Return the settings that are terms, as a run configuration has them."""
    return {k: value for k, value in settings.to_run_config().items() if k not in _LOCAL}


def with_agreed(own: RunSettings, agreed: Mapping[str, Any]) -> RunSettings:
    """Return a run's agreed settings, carried out where and how another's say.

    Parameters
    ----------
    own : RunSettings
        Say where and how.
    agreed : mapping
        What :func:`agreed_config` gives, no more and no less.

    Raises
    ------
    SettingsError
        If a key is missing or surplus, or the settings do not go together.
    """
    expected = agreed_config(own).keys()
    if agreed.keys() != expected:
        odd = sorted(agreed.keys() ^ expected)[0]
        raise SettingsError(f"{odd[:80]!r}: missing or surplus among a run's agreed settings")
    return RunSettings.from_run_config({**own.to_run_config(), **agreed})


def terms_hash(terms: Mapping[str, Any]) -> bytes:
    """Return the 32-byte hash of the terms' canonical encoding."""
    return hash_json(dict(terms))


def differing_terms(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the terms in which two differ, each with both values."""
    return [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
