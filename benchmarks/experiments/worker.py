"""A process that carries out experiments: model and first rounds stay there between them.

In a module of its own: what a package's ``__main__`` defines, another process cannot be sent.
"""

import multiprocessing
import os
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.experiments.before import Before
from benchmarks.experiments.experiment import Experiment
from benchmarks.experiments.federation import carry_out
from benchmarks.provenance import provenance
from llm.base_model import BaseModel, load_base_model
from llm.model_source import BaseModelSettings
from strategies.home import cache_folder
from strategies.run_parts import base_model_settings

_BEFORE: Final = Before()


def begin() -> None:
    """Compute on one thread, of which two take more from two cores; end with who began it."""
    torch.set_num_threads(1)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """Compute nothing that nobody waits for: a command that was killed cannot say so."""
    parent.join()
    os._exit(1)


def measured(experiment: Experiment) -> dict[str, Any]:
    """Carry out an experiment; return what it came to, where and when, and what of a core it took.

    What the same process computed before, in another experiment, it does not take again.
    """
    busy = time.process_time()
    run = experiment.run(experiment.names)
    cache = cache_folder(run.home_path)
    done = carry_out(experiment, _base(base_model_settings(run), cache), cache, _BEFORE)
    stated = provenance("", "torch", "transformers", "bitsandbytes")
    stamp = {name: stated[name] for name in ("commit", "processor", "cores", "versions")}
    taken = round(time.process_time() - busy, 1)
    return {**done, **stamp, "cpu_seconds": taken, "at": datetime.now(UTC).isoformat()}


@lru_cache(maxsize=1)
def _base(settings: BaseModelSettings, cache: Path) -> BaseModel:
    return load_base_model(settings, cache)
