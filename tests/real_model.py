"""The embedded model and data from the application cache, so that tests fetch nothing twice."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm.base_model import BaseModel


def application_cache() -> Path:
    """The folder ``make demo`` fills; made on first use."""
    home = Path(os.environ.get("FOEDUS_HOME") or "~/.foedus").expanduser()
    cache = home / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def real_base(compute_dtype: str = "auto") -> "BaseModel":
    """The embedded model, quantized as by default; a process loads it once for all its tests.

    Parameters
    ----------
    compute_dtype : {"auto", "bfloat16", "float32"}
        As in :class:`llm.model_source.BaseModelSettings`.
    """
    # Loads torch, which whoever asks for the cache alone can do without.
    import torch

    from llm.quantization import fast_compute_dtype

    if compute_dtype == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # By its name, so that tests that name it share the same model.
        compute_dtype = str(fast_compute_dtype(device)).removeprefix("torch.")
    return _held(compute_dtype)


@functools.cache
def _held(compute_dtype: str) -> "BaseModel":
    from llm.base_model import load_base_model
    from llm.model_source import BaseModelSettings

    settings = BaseModelSettings.model_validate({"compute_dtype": compute_dtype})
    return load_base_model(settings, application_cache())
