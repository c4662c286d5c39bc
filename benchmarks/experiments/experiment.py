"""An experiment: every input of one run, and the hash under which its result is kept."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm.embedded_data import ORGANIZATIONS
from strategies.settings import RunSettings

World = Literal["domains", "halves", "cinema", "microblog"]
#: What hostile organizations send, see :mod:`benchmarks.experiments.hostile`; ``absent``: nothing,
#: which is what the others' work alone comes to.
AttackKind = Literal["noise", "loud-noise", "flipped-labels", "scaled", "copied", "absent"]

#: Who there is, by world.
NAMES: Final[dict[World, tuple[str, ...]]] = {
    "domains": tuple(ORGANIZATIONS),
    "halves": tuple(f"{domain}-{half}" for domain in ORGANIZATIONS for half in ("a", "b")),
    "cinema": tuple(f"cinema-{part}" for part in range(1, 5)),
    "microblog": tuple(f"microblog-{part}" for part in range(1, 5)),
}


class Attack(BaseModel):
    """Some organizations are hostile.

    Parameters
    ----------
    kind : str
        What they send.
    hostile : int
        How many they are, each of another domain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: AttackKind
    hostile: int = Field(1, ge=1, le=2)


class Experiment(BaseModel):
    """One run, and on what it is evaluated.

    Parameters
    ----------
    together : {"federated", "alone", "pooled"}
        Whether organizations train together, each for itself, or as one that holds all rows.
    world : {"domains", "halves", "cinema", "microblog"}
        Who holds what: four domains; each of them split in two; or one domain's rows split among
        four organizations.
    alpha : float, optional
        Concentration of the Dirichlet distribution by which one domain's labels are split.
    attack : Attack, optional
        Who is hostile, and how.
    settings : mapping
        The run's settings that differ from the defaults, by field name.
    pool : int, optional
        Rows that each organization trains on at most; all of them where absent.
    form : {"label", "text"}
        Whether labels are learned, or the texts themselves: what is remembered of a text shows.
    membership : bool
        Whether attacks are to tell the rows of the pool from test rows, after the last round.
    test_rows : int
        Test rows at most: of each organization; of each domain, where that is split in halves.
    every_round : bool
        Whether each round's adapter is evaluated (and the base, as round 0), or the last alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    together: Literal["federated", "alone", "pooled"] = "federated"
    world: World = "domains"
    alpha: float | None = Field(None, gt=0)
    attack: Attack | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    pool: int | None = Field(None, ge=1)
    form: Literal["label", "text"] = "label"
    membership: bool = False
    test_rows: int = Field(200, ge=1)
    every_round: bool = False

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if (self.alpha is not None) != (self.world in ("cinema", "microblog")):
            raise ValueError(f"{self.world}: alpha belongs to one domain's rows, and to them alone")
        if self.form == "text" and self.world != "domains":
            raise ValueError(f"{self.world}: texts are learned on domains alone")
        if self.attack and (self.together, self.world) != ("federated", "halves"):
            raise ValueError("an attack: expected a federation of halves, where each has a twin")
        self.run(self.names)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Who holds data, in the order of the world."""
        return NAMES[self.world]

    def run(self, organizations: Sequence[str]) -> RunSettings:
        """Return the settings of a run by some organizations; nobody is paid or declines.

        Raises
        ------
        ValueError
            If they do not go together.
        """
        return RunSettings(
            organizations=",".join(organizations),
            min_organizations=1,
            public_validation="none",
            participation="always",
            # One a process: experiments side by side take more from two cores than threads do.
            **{"threads": 1, **self.settings},
        )

    @property
    def inputs(self) -> dict[str, Any]:
        """Every input; the run's settings whole, so that another default is another input."""
        given = self.model_dump(mode="json", exclude={"settings"})
        return {**given, "run": self.run(self.names).to_run_config()}

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all inputs."""
        text = json.dumps(self.inputs, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
