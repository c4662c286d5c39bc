"""How a step size falls from its peak: over the steps of a round, over the rounds of a run."""

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]


def share_of_peak(schedule: Schedule, step: int, steps: int) -> float:
    """Return what is left of the peak at a step; the last one still moves.

    Parameters
    ----------
    schedule : {"constant", "linear", "cosine"}
        The peak throughout, or a fall along a line or a half wave.
    step, steps : int
        The step, from 1, and how many there are.

    Returns
    -------
    float
        Above 0, at most 1; 1 at the first step.
    """
    if schedule == "constant":
        return 1.0
    # Counts the steps that remain, this one included.
    remaining = (steps - step + 1) / steps
    return remaining if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * remaining))
