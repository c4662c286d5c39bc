"""How an organization trains: checked settings, known to those who do not train as well."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from llm.privacy_settings import PrivacySettings
from llm.schedules import Schedule


class TrainingSettings(BaseModel):
    """How an organization trains.

    Parameters
    ----------
    learning_rate : float
        Peak step size of AdamW (no weight decay: it would move factors without any record's say).
    batch_size : int
        Records an optimizer step.
    micro_batch_size : int
        Records at once in memory; gradients accumulate to the batch, weighted by tokens, so that
        only rounding depends on it.
    micro_batch_tokens : int
        Tokens at once in memory, padding included; long records come in smaller groups. Each
        takes about 12 kB a layer of a model 576 wide until its gradient is done.
    epochs : int
        Passes over the records.
    warmup_steps : int
        Steps over which the step size rises linearly.
    schedule : {"constant", "linear", "cosine"}
        What follows: the peak, or a fall to zero at the last step.
    max_gradient_norm : float
        Gradients longer than this are shortened to it.
    max_tokens : int
        Longest record, prompt and completion.
    long_records : {"truncate", "refuse"}
        What happens to longer ones: their prompt loses its beginning, or training stops.
    privacy : PrivacySettings, optional
        Bound and noise of every record's gradient; none where absent. Batches are then drawn by the
        records' ids, and a record is a micro-batch of its own.
    threads : int, optional
        Processor threads; what torch is set to where absent. Matrix units (AMX) sum in another
        order on another number of threads: whoever must repeat an update names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=1e-3, gt=0, le=1, allow_inf_nan=False)
    batch_size: int = Field(default=16, ge=1, le=4096)
    micro_batch_size: int = Field(default=16, ge=1, le=4096)
    micro_batch_tokens: int = Field(default=1024, ge=1)
    epochs: int = Field(default=1, ge=1, le=1000)
    warmup_steps: int = Field(default=8, ge=0)
    schedule: Schedule = "constant"
    max_gradient_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    max_tokens: int = Field(default=512, ge=2)
    long_records: Literal["truncate", "refuse"] = "truncate"
    privacy: PrivacySettings | None = None
    threads: int | None = Field(default=None, ge=1, le=1024)
