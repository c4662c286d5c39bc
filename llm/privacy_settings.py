"""How much a training step may say of one record; known to those who do not train as well."""

from pydantic import BaseModel, ConfigDict, Field


class PrivacySettings(BaseModel):
    """How much a step may say of one record.

    Parameters
    ----------
    clip : float
        Bound on the norm of one record's gradient.
    noise_multiplier : float
        Standard deviation of the noise on every value of a step's summed gradient, in units of
        ``2 clip``: by so much another record in a record's place changes the sums of an epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: float = Field(gt=0, allow_inf_nan=False)
    noise_multiplier: float = Field(gt=0, allow_inf_nan=False)

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on each value of a summed gradient."""
        return self.noise_multiplier * 2 * self.clip
