"""What every training of an adapter's factors does, whether it teaches or makes forget."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from llm.factors import Arrays
from llm.trained_factors import TrainedFactors


class TrainingError(RuntimeError):
    """Training gave no usable update; the message says what happened, and no record's text."""


@contextmanager
def on_threads(wanted: int | None) -> Iterator[int]:
    """Compute on a number of processor threads until the context ends; as many as now if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield wanted or before
    finally:
        torch.set_num_threads(before)


def optimizer_of(factors: TrainedFactors, learning_rate: float) -> torch.optim.AdamW:
    """Return AdamW without weight decay, which would move factors without any record's say."""
    return torch.optim.AdamW(factors.parameters, lr=learning_rate, weight_decay=0.0, fused=True)


def check_step(step: int, steps: int, loss: float, norm: float) -> None:
    """Refuse to go on from a step whose loss or gradient is no number.

    Parameters
    ----------
    step, steps : int
        Which step, counted from 1, of how many.
    loss : float
        Its loss, nats.
    norm : float
        Norm of its gradient.

    Raises
    ------
    TrainingError
        If either is not finite.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"step {step} of {steps}: loss {loss}, gradient norm {norm}; expected "
            "finite numbers (lower the learning rate, or check the received adapter)"
        )


def clip_gradients(factors: TrainedFactors, norm: float, limit: float) -> None:
    """Shorten the gradients, whose norm is given, to a limit where they are longer."""
    if norm > limit:
        for parameter in factors.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(limit / norm)


def check_update(update: Arrays) -> None:
    """Refuse an update of which a factor did not move, or holds values that are no numbers.

    Raises
    ------
    TrainingError
        Naming the first such factor.
    """
    still = [name for name, change in update.items() if not np.any(change)]
    if still:
        raise TrainingError(
            f"{len(still)} of {len(update)} trained factors did not move, first {still[0]}: no "
            "gradient reached them (an A beside a B of zeros cannot be trained alone)"
        )
    broken = [name for name, change in update.items() if not np.isfinite(change).all()]
    if broken:
        raise TrainingError(f"{broken[0]}: not finite after the last step; lower the learning rate")
