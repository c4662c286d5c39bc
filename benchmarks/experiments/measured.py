"""What was measured of a study: its cells, and means over seeds with their intervals."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

from benchmarks.experiments.studies import STUDIES


@dataclass(frozen=True)
class Cell:
    """An experiment that was carried out.

    Parameters
    ----------
    name : str
        As the study calls it.
    inputs : mapping
        All of them, the run's settings under ``run``.
    result : mapping
        As :func:`benchmarks.experiments.federation.carry_out` gives it.
    """

    name: str
    inputs: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def run(self) -> Mapping[str, Any]:
        """The run's settings."""
        settings: Mapping[str, Any] = self.inputs["run"]
        return settings

    @property
    def seed(self) -> int:
        """Of everything drawn."""
        return int(self.run["seed"])

    @property
    def last(self) -> Mapping[str, Any]:
        """The last round."""
        measured: Mapping[str, Any] = self.result["rounds"][-1]
        return measured

    @property
    def accuracy(self) -> float:
        """Mean accuracy over all test sets after the last round."""
        return float(self.last["accuracy"])

    @property
    def loss(self) -> float:
        """Mean loss over them, nats a token; infinite where the model's answers are no numbers."""
        return finite_or_infinite(self.last["loss"])

    @property
    def uploaded(self) -> int:
        """Bytes that all organizations sent, in all rounds."""
        return sum(int(one["upload_bytes"]) for one in self.result["rounds"])


def finite_or_infinite(found: float | None) -> float:
    """Return a figure as it was; JSON has ``null`` for what is no number, which is infinite."""
    return math.inf if found is None else float(found)


def of_round(number: int, figure: str) -> Callable[[Cell], float]:
    """Return the function from a cell to a figure of one of its rounds; -1 is the last."""
    return lambda cell: finite_or_infinite(cell.result["rounds"][number][figure])


def cells_of(study: str, results: Mapping[str, Any]) -> list[Cell]:
    """Return a study's cells as its experiments are now: what other settings gave is left out.

    Parameters
    ----------
    study : str
        Its name.
    results : mapping
        As :meth:`benchmarks.results_file.ResultsFile.read` gives it.
    """
    seeds = {one["run"]["seed"] for one in results["settings"].values()}
    wanted = {
        experiment.digest: name
        for seed in sorted(seeds)
        for name, experiment in STUDIES[study](seed)
    }
    found = [
        Cell(wanted[cell["setting"]], results["settings"][cell["setting"]], cell)
        for cell in results["cells"].values()
        if cell["setting"] in wanted
    ]
    order = list(wanted.values())
    return sorted(found, key=lambda cell: order.index(cell.name))


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Parameters
    ----------
    value : float
        The mean.
    half : float or None
        Half of its 95 % interval, by Student's t; None of a single seed, or where one is infinite.
    count : int
        How many there were.
    """

    value: float
    half: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Take the mean of one value or more."""
        count = len(values)
        if not all(map(math.isfinite, values)):
            return cls(sum(values) / count, None, count)
        if count < 2:
            return cls(fmean(values), None, count)
        spread = stdev(values) / math.sqrt(count)
        return cls(fmean(values), float(t.ppf(0.975, count - 1)) * spread, count)

    def shown(self, form: str) -> str:
        """Return it with its interval, each number by the format given."""
        text = format(self.value, form)
        return text if self.half is None else f"{text} ± {format(self.half, form.lstrip('+'))}"


def mean_of(cells: Iterable[Cell], of: Callable[[Cell], float]) -> Mean | None:
    """Return the mean of a figure over cells; ``None`` without any."""
    values = [of(cell) for cell in cells]
    return Mean.of(values) if values else None


def mean_difference(
    cells: Sequence[Cell], others: Sequence[Cell], of: Callable[[Cell], float]
) -> Mean | None:
    """Return the mean over seeds of a figure's difference, seed by seed; ``None`` without any."""
    by_seed = {cell.seed: of(cell) for cell in others}
    values = [of(cell) - by_seed[cell.seed] for cell in cells if cell.seed in by_seed]
    return Mean.of(values) if values else None
