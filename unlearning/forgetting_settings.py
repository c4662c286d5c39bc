"""How an organization unlearns records by training: checked settings."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class ForgettingSettings:
    """How an organization unlearns records by training.

    Parameters
    ----------
    method : {"npo", "grad-diff", "simnpo", "grad-ascent"}
        The loss (:mod:`unlearning.methods`).
    epochs : int
        Most passes over the records to forget, each one optimizer step.
    learning_rate : float
        Step size of AdamW (no weight decay), the same at every step.
    max_tokens : int
        Longest record, as in the training that is undone; a longer one's prompt loses its
        beginning.
    micro_batch_size : int
        Records at once in memory; only rounding depends on it.
    micro_batch_tokens : int
        Tokens at once in memory, padding included.
    beta : float, optional
        The method's, per nat; its own default where absent.
    gamma : float
        Margin of ``simnpo``.
    retain_weight : float
        Weight of the records to keep; 0 leaves them out.
    max_gradient_norm : float
        Gradients longer than this are shortened to it.
    checked_records : int
        Records to forget that a look reads, at most: those of a larger set are drawn once.
    threads : int, optional
        Processor threads; what torch is set to where absent. Whoever must repeat an update names
        it.
    """

    method: Literal["npo", "grad-diff", "simnpo", "grad-ascent"] = "npo"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    learning_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1e-3
    max_tokens: Annotated[int, Field(ge=2)] = 512
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    micro_batch_tokens: Annotated[int, Field(ge=1)] = 1024
    beta: _Positive | None = None
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    retain_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    max_gradient_norm: _Positive = 1.0
    checked_records: Annotated[int, Field(ge=1)] = 32
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
