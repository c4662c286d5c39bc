"""One cell from its name to its line in the file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.unlearning.adapter_store import AdapterStore, Made
from benchmarks.unlearning.cells import Cell
from benchmarks.unlearning.deep import deep_measures
from benchmarks.unlearning.federation import Federation
from benchmarks.unlearning.measurement import measured
from benchmarks.unlearning.models import Models
from benchmarks.unlearning.questions import questions_of
from benchmarks.unlearning.setting import Setting


def measured_cell(
    cell: Cell,
    setting: Setting,
    folder: Path,
    *,
    tell: Callable[[str], None],
    known: Mapping[str, Any] | None = None,
    again: bool = False,
    deep: bool = False,
) -> dict[str, Any]:
    """Make a cell's model, or take it from the folder, and ask it.

    Parameters
    ----------
    cell : Cell
        Which.
    setting : Setting
        What all cells have in common.
    folder : Path
        Where models of all settings are kept.
    tell : callable
        Told of every round.
    known : mapping, optional
        What was measured before; only what it lacks is measured.
    again : bool, optional
        Make the model again where it is there.
    deep : bool, optional
        Attack it as well by what takes longer.
    """
    federation = _federation(setting, cell.seed)
    torch.set_num_threads(setting.run.threads or torch.get_num_threads())
    folder = folder / setting.training_digest
    models = Models(federation, AdapterStore(folder, federation.rule), tell)
    made = models.of(cell, again=again)
    done = dict(known) if known else _begun(cell, made, federation)
    if cell.model == "exact":
        # It has the retrained model's bits, or is none: there is nothing to ask.
        return done
    questions = questions_of(models.requests(cell), federation.holdings, setting)
    if "metrics" not in done:
        done |= measured(federation, federation.adapter(made.state), questions, folder)
    if deep and "deep" not in done:
        done["deep"] = deep_measures(models, cell, made, questions)
    return done


@lru_cache(maxsize=2)
def _federation(setting: Setting, seed: int) -> Federation:
    return Federation(setting, seed)


def _begun(cell: Cell, made: Made, federation: Federation) -> dict[str, Any]:
    return {
        "name": cell.name,
        **cell.to_json(),
        "variant": asdict(cell.variant) if cell.variant else None,
        "hash": made.hash,
        "cost": asdict(made.cost),
        "rounds": made.rounds,
        "details": made.details,
        "compute_dtype": str(federation.base.compute_dtype).removeprefix("torch."),
    }
