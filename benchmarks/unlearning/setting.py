"""The setting of the benchmark: what all its cells have in common."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from strategies.home import cache_folder
from strategies.settings import RunSettings

#: Settings of a run on which an adapter's bits depend, besides the seed.
_OF_THE_RUN: Final = (
    "organizations",
    "data",
    "data_form",
    "data_fields",
    "data_labels",
    "data_template",
    "model",
    "quantization",
    "compute_dtype",
    "rank",
    "alpha",
    "target_modules",
    "rounds",
    "records_per_round",
    "epochs",
    "batch_size",
    "micro_batch_size",
    "learning_rate",
    "warmup_steps",
    "schedule",
    "max_gradient_norm",
    "max_tokens",
    "threads",
    "aggregation",
    "robust",
    "weight_cap",
)


def run_settings(**changes: Any) -> RunSettings:
    """Return the settings of a run, with the benchmark's own defaults.

    About three passes over 256 records, all rounds alike: what is forgotten was learned early and
    late. One thread: two cells side by side get more out of two
    cores than one on both, and on one thread a model can be made again bit for bit.
    """
    own = {"rounds": 20, "records_per_round": 38, "round_schedule": "constant", "threads": 1}
    return RunSettings(**{**own, **changes})


@dataclass(frozen=True)
class Setting:
    """What all cells have in common.

    Parameters
    ----------
    run : RunSettings
        As of a run; its seed is the cell's to say.
    form : {"completion", "label"}
        Whether the text itself is learned, or the word after it.
    records : int
        Training records of an organization, without canaries.
    canaries : int
        In all; dealt in turn to the organizations they are planted in.
    planted : tuple of str
        Whose records canaries are planted in; empty: everybody's.
    references : int
        Strings never trained on that a canary is ranked among.
    hold_out_rows : int
        Test rows of each asking organization that attacks take for non-members, at most.
    retain_rows : int
        Records kept that are asked about: of each asking organization, or of all others together
        where it leaves; at most.
    test_rows : int
        Test rows of each other organization, at most.
    """

    run: RunSettings = field(default_factory=run_settings)
    form: str = "completion"
    records: int = 256
    canaries: int = 64
    planted: tuple[str, ...] = ()
    references: int = 127
    hold_out_rows: int = 200
    retain_rows: int = 96
    test_rows: int = 80

    @property
    def cache(self) -> Path:
        """Where models and data are cached."""
        return cache_folder(self.run.home_path)

    def at(self, seed: int) -> RunSettings:
        """Return the run's settings at a seed."""
        return self.run.model_copy(update={"seed": seed})

    @property
    def training(self) -> dict[str, Any]:
        """What adapters depend on, besides the cell."""
        said = {
            "form": self.form,
            "records": self.records,
            "canaries": self.canaries,
            "planted": list(self.planted),
            **{name: getattr(self.run, name) for name in _OF_THE_RUN},
        }
        # Unsaid where rounds are alike: what was made before they could differ keeps its name.
        alike = self.run.round_schedule == "constant"
        return said if alike else {**said, "round_schedule": self.run.round_schedule}

    @property
    def described(self) -> dict[str, Any]:
        """What measurements depend on, besides the cell."""
        return {
            **self.training,
            "references": self.references,
            "hold_out_rows": self.hold_out_rows,
            "retain_rows": self.retain_rows,
            "test_rows": self.test_rows,
        }

    @cached_property
    def training_digest(self) -> str:
        """Short name of :attr:`training`."""
        return _digest(self.training)

    @cached_property
    def digest(self) -> str:
        """Short name of :attr:`described`."""
        return _digest(self.described)


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
