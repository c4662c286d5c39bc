"""The cells of one setting, form and case: what a table is about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

from benchmarks.unlearning.cells import CASES, METHODS, MODELS, Variant

#: Ways of unlearning that a table of records has a row for, measured or not. Who leaves has little
#: left to unlearn by a loss, once its terms are out.
VARIANTS: Final = tuple(Variant(method) for method in METHODS)

#: A cell as it stands in the file.
CellJson = Mapping[str, Any]
#: Seed, organization, set.
Subject = tuple[int, str, int]


@dataclass(frozen=True)
class Group:
    """Cells that are compared with one another.

    Parameters
    ----------
    setting : str
        Digest of the setting.
    form, case : str
        What was learned, and what is forgotten.
    by_kind : mapping of str to mapping of (seed, organization, set) to dict
        The cells.
    """

    setting: str
    form: str
    case: str
    by_kind: Mapping[str, Mapping[Subject, CellJson]]

    @property
    def title(self) -> str:
        """What the group is about."""
        return f"{self.case}, {self.form} (setting {self.setting})"

    @property
    def subjects(self) -> list[Subject]:
        """Of whom anything was measured."""
        return sorted({subject for of_kind in self.by_kind.values() for subject in of_kind})

    @property
    def kinds(self) -> list[str]:
        """Rows of the tables: those that are expected, measured or not, and all others."""
        usual = [Variant()] if self.case == "withdrawal" else VARIANTS
        fast = [f"fast {variant.label}" for variant in usual]
        alone = [name for name in MODELS if name.startswith("isolated")]
        expected = ["trained", "retrained", "exact", *fast]
        expected += alone if self.case == "withdrawal" else []
        return [*expected, *sorted(self.by_kind.keys() - set(expected))]

    def cells(self, kind: str) -> list[CellJson]:
        """Return a kind's cells, in the order of the subjects."""
        of_kind = self.by_kind.get(kind, {})
        return [of_kind[subject] for subject in sorted(of_kind)]

    def comparable(self, *kinds: str) -> list[Subject]:
        """Return the subjects of which all these kinds were measured, in one arithmetic.

        Another processor may compute in another type: models of which differ by more than what one
        of them was made to forget.
        """
        return [subject for subject in self.subjects if self._in_one_arithmetic(subject, kinds)]

    def _in_one_arithmetic(self, subject: Subject, kinds: Sequence[str]) -> bool:
        cells = [self.by_kind.get(kind, {}).get(subject) for kind in kinds]
        return None not in cells and len({c["compute_dtype"] for c in cells if c}) == 1

    def lacking(self, kind: str) -> str:
        """Name the subjects of which a kind is missing."""
        there = self.by_kind.get(kind, {})
        return ", ".join("/".join(map(str, one)) for one in self.subjects if one not in there)

    def records(self, kind: str, subjects: Iterable[Subject]) -> list[Mapping[str, Any]]:
        """Return what was measured of each record, subject by subject."""
        return [self.by_kind[kind][subject]["records"] for subject in subjects]


def groups_of(results: Mapping[str, Any]) -> list[Group]:
    """Sort the file's cells.

    Parameters
    ----------
    results : mapping
        As :meth:`ResultsFile.read` gives it.
    """
    sorted_in: dict[tuple[str, str, str], dict[str, dict[Subject, CellJson]]] = {}
    for cell in results["cells"].values():
        place = (cell["setting"], cell["form"], cell["case"])
        of_kind = sorted_in.setdefault(place, {}).setdefault(cell["kind"], {})
        of_kind[cell["seed"], cell["organization"], cell["set"]] = cell
    order = sorted(sorted_in, key=lambda place: (place[0], place[1], CASES.index(place[2])))
    return [Group(*place, sorted_in[place]) for place in order]


def mean_and_error(values: Sequence[float]) -> str:
    """Return a mean with its standard error over models; alone, a value has none."""
    if len(values) < 2:
        return f"{fmean(values):.3f}"
    return f"{fmean(values):.3f} ± {stdev(values) / len(values) ** 0.5:.3f}"
