"""How the public validation loss follows from effort, and how noisily a gain is measured."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

CALIBRATION = Path(__file__).with_name("calibration.json")

#: One number, or an array of them.
Numbers = TypeVar("Numbers", float, NDArray[np.float64])


@dataclass(frozen=True)
class Response:
    """Loss after accumulated progress; decreasing and convex, so that effort pays less and less.

    With the progress ``E``, one of

        exponential: L(E) = floor + (initial - floor) exp(-(E / scale)^shape)
        power:       L(E) = floor + (initial - floor) (1 + E / scale)^-shape

    The power law is that of learning curves, Hestness et al. (arXiv 1712.00409); the stretched
    exponential is Kohlrausch's. A round in which the efforts (usefulness times records) sum to
    ``S`` adds ``S^redundancy`` to the progress: an aggregate is a mean, so twice as many alike
    updates do not go twice as far.

    Parameters
    ----------
    form : {"exponential", "power"}
        Which one.
    initial, floor : float
        Loss of the base model and after endless training, nats a token.
    scale : float
        Progress at which the curve turns, in units of progress.
    shape : float
        Above 0; at most 1 for the exponential, which is convex only so.
    redundancy : float
        Above 0, at most 1; 1: efforts add up.
    """

    form: Literal["exponential", "power"]
    initial: float
    floor: float
    scale: float
    shape: float
    redundancy: float

    def __post_init__(self) -> None:
        largest = 1.0 if self.form == "exponential" else np.inf
        if not (0 < self.shape <= largest and 0 < self.redundancy <= 1 and self.scale > 0):
            raise ValueError(f"{self}: shape, redundancy or scale out of range")
        if not self.floor < self.initial:
            raise ValueError(f"floor {self.floor} nats, expected below {self.initial}")

    def loss(self, progress: Numbers) -> Numbers:
        """Return the loss in nats at a progress of at least 0."""
        reached = progress / self.scale
        if self.form == "exponential":
            left = np.exp(-(reached**self.shape))
        else:
            left = (1.0 + reached) ** -self.shape
        return self.floor + (self.initial - self.floor) * left

    def progress(self, effort: Numbers) -> Numbers:
        """Return what a round's summed effort adds to the progress."""
        return effort**self.redundancy


@dataclass(frozen=True)
class Noise:
    """How far a measured gain lies from the expected one: other records, other validation rows.

    ``gain + (floor + share p L) z``, with ``z`` standard normal, ``p`` the update's share of the
    round's effort and ``L`` the loss after the round. Leaving an update out shifts the adapter by
    its weight, and what a shift does by chance to the loss on few rows grows with that loss. It
    does not shrink with the gains: late rounds are paid for luck more than for anything else. What
    does nothing is measured as nothing.

    Parameters
    ----------
    share : float
        Standard deviation of the whole aggregate's luck, as a share of the loss.
    floor : float
        Nats.
    """

    share: float
    floor: float

    def deviation(
        self, efforts: NDArray[np.float64], loss: NDArray[np.float64] | float
    ) -> NDArray[np.float64]:
        """Return the standard deviations of measured gains, nats.

        Parameters
        ----------
        efforts : ndarray of float64, (..., k)
            Of a round's updates.
        loss : ndarray of float64, (...), or float
            After the round, nats.
        """
        whole = np.maximum(efforts.sum(axis=-1, keepdims=True), 1e-12)
        luck = self.share * np.asarray(loss)[..., None] * efforts / whole
        return np.where(efforts > 0, self.floor + luck, 0.0)


@dataclass(frozen=True)
class Calibration:
    """What was fitted to logs of real runs.

    Parameters
    ----------
    response, noise : Response, Noise
        See there.
    share_power : float
        Records of a round count by this power of their share of the demo's draw: few steps, half of
        them warm-up, move less than their share.
    usefulness_spread : float
        Standard deviation of the logarithm of the organizations' usefulness.
    tokens : tuple of int
        Fewest and most tokens a record.
    """

    response: Response
    noise: Noise
    share_power: float
    usefulness_spread: float
    tokens: tuple[int, int]

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read what :mod:`.calibrate` wrote."""
        return cls(
            Response(**document["response"]),
            Noise(**document["noise"]),
            document["share_power"],
            document["usefulness_spread"],
            (document["tokens"][0], document["tokens"][1]),
        )

    @classmethod
    def load(cls, path: Path = CALIBRATION) -> Self:
        """Read the calibration that ships."""
        return cls.from_json(json.loads(path.read_text()))
