"""What can be measured: a cell is one model, asked about what one request was to forget."""

from dataclasses import dataclass
from typing import Any, Final

from strategies.settings import RunSettings

CASES: Final = ("records-1", "records-10", "withdrawal", "sequence", "together")
#: ``isolated-all`` is the positive control of ``isolated``: nobody was dropped.
MODELS: Final = ("trained", "retrained", "exact", "fast", "isolated", "isolated-all")
METHODS: Final = ("npo", "grad-diff", "simnpo", "grad-ascent")
FORMS: Final = ("completion", "label")


@dataclass(frozen=True)
class Variant:
    """A way of unlearning fast.

    Parameters
    ----------
    method : {"npo", "grad-diff", "simnpo", "grad-ascent"}
        The loss.
    projection : bool
        Whether what opposes the unlearning is taken out of the updates of recovery rounds.
    recovery_rounds : int, optional
        Rounds of ordinary training after the unlearning; as in a run where absent.
    epochs : int
        Most passes over the records to forget.
    learning_rate : float
        Step size of the unlearning.
    stop_rows : int
        Rows never trained on that the stop rule compares with; 0: no rule, all epochs.
    renormalized : bool
        Whether the weights of those who stay add up to 1 where an organization is taken out; a
        run leaves them as they were.
    """

    method: str = "npo"
    projection: bool = False
    recovery_rounds: int | None = None
    epochs: int = 10
    learning_rate: float = 1e-3
    stop_rows: int = 32
    renormalized: bool = False

    def recovery(self, run: RunSettings, *, withdrawn: bool) -> int:
        """Return how many rounds of recovery follow a request."""
        return (
            run.recovery_after(withdrawn) if self.recovery_rounds is None else self.recovery_rounds
        )

    @property
    def label(self) -> str:
        """Its name: the method, and whatever differs from the defaults."""
        default = Variant()
        others = {
            "recovery": (self.recovery_rounds, default.recovery_rounds),
            "epochs": (self.epochs, default.epochs),
            "rate": (self.learning_rate, default.learning_rate),
            "stop-rows": (self.stop_rows, default.stop_rows),
        }
        changed = [
            f"{name}={mine:g}"
            for name, (mine, usual) in others.items()
            if mine is not None and mine != usual
        ]
        named = ("projection", self.projection), ("renormalized", self.renormalized)
        return "+".join([self.method, *(name for name, holds in named if holds), *changed])


@dataclass(frozen=True)
class Cell:
    """One model, and the request by which it is asked.

    Parameters
    ----------
    model : str
        One of :data:`MODELS`.
    case : str
        One of :data:`CASES`.
    organization : str
        Who asks; in the case ``together`` the two after it ask as well.
    index : int
        Which of the disjoint sets of records; 0 where all is forgotten.
    seed : int
        Of records, draws, order and A.
    form : str
        One of :data:`FORMS`.
    variant : Variant, optional
        How, of ``fast``.

    Raises
    ------
    ValueError
        If there is no such cell.
    """

    model: str
    case: str
    organization: str
    index: int
    seed: int
    form: str
    variant: Variant | None = None

    def __post_init__(self) -> None:
        for given, known in ((self.model, MODELS), (self.case, CASES), (self.form, FORMS)):
            if given not in known:
                raise ValueError(f"{given!r}: expected one of {', '.join(known)}")
        if (self.variant is not None) != (self.model == "fast"):
            raise ValueError(f"{self.model}: a variant belongs to fast, and to it alone")
        if self.model.startswith("isolated") and self.case != "withdrawal":
            raise ValueError(f"{self.model} is there for withdrawals, not for {self.case}")

    @property
    def is_shared(self) -> bool:
        """Whether nothing was forgotten: one model of a seed for all cases."""
        return self.model in ("trained", "isolated-all")

    @property
    def kind(self) -> str:
        """The row it takes in the tables: the model, and of a fast one the variant."""
        return f"{self.model} {self.variant.label}" if self.variant else self.model

    @property
    def subject(self) -> tuple[int, str, int]:
        """Whose models are compared with one another: seed, organization, set."""
        return self.seed, self.organization, self.index

    @property
    def name(self) -> str:
        """Such as ``completion/42/records-10/cinema/0/fast npo+projection``."""
        parts = (self.form, self.seed, self.case, self.organization, self.index, self.kind)
        return "/".join(map(str, parts))

    def to_json(self) -> dict[str, Any]:
        """Lay it out for the file of results."""
        return {
            "model": self.model,
            "case": self.case,
            "organization": self.organization,
            "set": self.index,
            "seed": self.seed,
            "form": self.form,
            "kind": self.kind,
        }
