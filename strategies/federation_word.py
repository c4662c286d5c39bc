"""What the coordinator's door says of the federation to whoever asks, and how that is read.

It comes from another machine: whoever reads it takes nothing for granted.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockchain.deployment import Deployment

#: Settings of runs that decide whether an organization can take part at all: how its rows are read,
#: and the model that it has to load.
RUN_SETTINGS: Final = ("data-form", "data-fields", "data-labels", "data-template", "model")

_Version = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{0,64}$")]
#: Characters of a setting, at most.
MOST: Final = 4096
_Setting = Annotated[str, Field(max_length=MOST)]


class FederationWordError(Exception):
    """What the coordinator says of the federation is not what it should be; one line says where."""


class FederationWord(BaseModel):
    """The door's answer; a coordinator of an older version says less, of a newer one perhaps more.

    Parameters
    ----------
    deployment : Deployment or None
        Where the contracts lie; None before the federation is founded.
    foedus, flwr : str
        Versions of Foedus and Flower on the coordinator's machine; empty where it does not say.
    time : float or None
        The coordinator's clock, seconds since the epoch.
    run : dict of str to str
        Those of `RUN_SETTINGS` that the coordinator's runs do not leave at their defaults.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    deployment: Deployment | None
    foedus: _Version = ""
    flwr: _Version = ""
    time: Annotated[float, Field(ge=0, lt=2**53, allow_inf_nan=False)] | None = None
    run: dict[str, _Setting] = Field(default_factory=dict)

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        """Read an answer, keeping of the settings only those that are known here.

        Raises
        ------
        FederationWordError
            If it is none.
        """
        try:
            word = cls.model_validate(answer)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part)[:40] for part in first["loc"])
            raise FederationWordError(
                f"what the coordinator says of the federation is none: {where}: {first['msg']}"
            ) from None
        run = {key: value for key, value in word.run.items() if key in RUN_SETTINGS}
        return word.model_copy(update={"run": run})
