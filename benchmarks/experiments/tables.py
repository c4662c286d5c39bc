"""The tables of the studies, each made of its cells and of nothing else."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from benchmarks.experiments.measured import (
    Cell,
    finite_or_infinite,
    mean_difference,
    mean_of,
    of_round,
)
from benchmarks.sheets import MISSING, Sheet

_WAYS: Final = ("alone", "federated", "fedit", "pooled")
_MEBIBYTE: Final = 1 << 20
_UNCHANGED: Final = "†"


def tables_of(study: str, cells: Sequence[Cell]) -> list[Sheet]:
    """Return a study's tables."""
    return _TABLES[study](cells)


def _together(cells: Sequence[Cell]) -> list[Sheet]:
    worlds = list(dict.fromkeys(cell.name.split("/")[0] for cell in cells))
    sheets = []
    for figure, shown_as in _FIGURES.items():
        rows, of = [], of_round(-1, figure)
        for world in worlds:
            by_way = {way: _named(cells, world, way) for way in _WAYS}
            rows.append(
                [
                    world,
                    _shown(by_way["federated"], of_round(0, figure), ".3f"),
                    *(_shown(by_way[way], of, ".3f") for way in _WAYS),
                    _difference(by_way["federated"], by_way["alone"], of),
                    _difference(by_way["federated"], by_way["fedit"], of),
                    _difference(
                        by_way["federated"],
                        by_way["fedit"],
                        _once_sent(by_way["federated"], figure),
                    ),
                ]
            )
        sheets.append(
            Sheet(
                f"Training together: {shown_as}",
                [
                    "who holds what",
                    "base",
                    "each alone",
                    "federated (`ffa`)",
                    "A and B averaged (`fedit`)",
                    "all rows in one place",
                    "federated less alone",
                    "federated less `fedit`",
                    "the same, once `fedit` has sent as much",
                ],
                rows,
                "Mean over organizations' test rows after the last round, and over seeds, with "
                "95 % intervals (Student's t); differences seed by seed. All ways take the same "
                "number of records; what `fedit` comes to between two of its rounds is taken in "
                "proportion. A split by label that left somebody with next to nothing was "
                "drawn again.",
            )
        )
    each = (_by_organization(cells, worlds, figure) for figure in _FIGURES)
    return [*sheets, *each, _sent(cells, worlds)]


#: What is told of a test set, and how it is written.
_FIGURES: Final = {"accuracy": "accuracy", "loss": "loss, nats a token"}


def _once_sent(cells: Sequence[Cell], figure: str) -> Callable[[Cell], float]:
    """Return the figure of a cell once as many bytes were sent as cells given sent in all."""
    sent = cells[0].uploaded if cells else 0

    def of(cell: Cell) -> float:
        rounds = cell.result["rounds"]
        reached = np.cumsum([one["upload_bytes"] for one in rounds])
        values = [of_round(number, figure)(cell) for number in range(len(rounds))]
        return float(np.interp(sent, reached, values))

    return of


def _by_organization(cells: Sequence[Cell], worlds: Sequence[str], figure: str) -> Sheet:
    rows = []
    for world in worlds:
        by_way = {way: _named(cells, world, way) for way in _WAYS}
        federated = by_way["federated"]
        for name in federated[0].last["tests"] if federated else {}:
            of = _of_test(name, figure)
            commonest = _shown(federated, _of_test(name, "commonest"), ".3f")
            rows.append([world, name, commonest, *(_shown(by_way[w], of, ".3f") for w in _WAYS)])
    return Sheet(
        f"Training together: {_FIGURES[figure]} of each organization",
        [
            "who holds what",
            "organization",
            "commonest label",
            "alone",
            "federated",
            "`fedit`",
            "in one place",
        ],
        rows,
        "On the organization's own test rows. Commonest label: how often it is the right one. What "
        "those that train alone come to on the others' rows, in accuracy: "
        f"{_on_others(cells, worlds)}.",
    )


def _of_test(name: str, figure: str) -> Callable[[Cell], float]:
    return lambda cell: finite_or_infinite(cell.last["tests"][name][figure])


def _on_others(cells: Sequence[Cell], worlds: Sequence[str]) -> str:
    shown = []
    for world in worlds:
        alone = _named(cells, world, "alone")
        shown.append(f"{world} {_shown(alone, lambda one: one.last['others_accuracy'], '.3f')}")
    return "; ".join(shown)


def _sent(cells: Sequence[Cell], worlds: Sequence[str]) -> Sheet:
    """Say what accuracy was reached by round and by what all organizations had sent."""
    rows = []
    for world in worlds:
        for way in ("federated", "fedit"):
            found = _named(cells, world, way)
            sent = 0.0
            for number in range(len(found[0].result["rounds"]) if found else 0):
                sent += found[0].result["rounds"][number]["upload_bytes"] / _MEBIBYTE
                figures = (_shown(found, of_round(number, one), ".3f") for one in _FIGURES)
                rows.append([world, way, str(number), f"{sent:,.1f}", *figures])
    header = ["who holds what", "way", "rounds", "MiB sent by all", *_FIGURES.values()]
    return Sheet("Training together: by round and by bytes", header, rows)


def _rules(cells: Sequence[Cell]) -> list[Sheet]:
    rows = []
    default = {ranks: _named(cells, "ffa", ranks) for ranks in ("equal ranks", "mixed ranks")}
    for rule in dict.fromkeys(cell.name.split("/")[0] for cell in cells):
        for ranks, reference in default.items():
            found = _named(cells, rule, ranks)
            rows.append(
                [
                    rule,
                    ranks,
                    _shown(found, lambda cell: cell.accuracy, ".3f"),
                    _shown(found, lambda cell: cell.loss, ".3f"),
                    _difference(found, reference, lambda cell: cell.accuracy),
                    _shown(found, _error, ".3f"),
                    _shown(found, lambda cell: cell.uploaded / _MEBIBYTE, ",.0f"),
                ]
            )
    header = [
        "rule",
        "ranks",
        "accuracy",
        "loss",
        "accuracy less `ffa`'s",
        "misses the mean update by",
        "MiB sent by all",
    ]
    note = (
        "Mixed ranks: `shop` 8 and `newspaper` 4 of 16. What a rule misses is the relative "
        "distance to the weighted mean of the updates, mean over rounds."
    )
    return [Sheet("Aggregation rules", header, rows, note)]


def _error(cell: Cell) -> float:
    errors = [one.get("error", 0.0) for one in cell.result["rounds"][1:]]
    return sum(errors) / len(errors)


def _robustness(cells: Sequence[Cell]) -> list[Sheet]:
    columns = list(dict.fromkeys(cell.name.split("/", 1)[1].rpartition("/")[0] for cell in cells))
    rules = list(dict.fromkeys(cell.name.split("/")[0] for cell in cells))
    rows = [[what, *(_attacked(cells, rule, what) for rule in rules)] for what in columns]
    note = (
        "Mean accuracy on four domains' test rows, eight organizations, and over seeds with 95 % "
        "intervals. `x1`, `x2`: how many are hostile. Updates beyond `norm-bound` are rejected, "
        "but for the rows that say so. `absent`: those who are hostile elsewhere send nothing. "
        f"{_UNCHANGED}: no round changed the untouched base, for the statistic needs more updates "
        "than came (Multi-Krum seven, of which two may be hostile)."
    )
    return [Sheet("Robustness: accuracy", ["attack", *rules], rows, note)]


def _attacked(cells: Sequence[Cell], rule: str, what: str) -> str:
    found = [cell for cell in cells if cell.name.startswith(f"{rule}/{what}/")]
    exact = [cell for cell in found if cell.name == f"{rule}/{what}/{cell.seed}"]
    shown = _shown(exact, lambda cell: cell.accuracy, ".3f", missing="")
    return f"{shown} {_UNCHANGED}" if exact and all(map(_changed_nothing, exact)) else shown


def _changed_nothing(cell: Cell) -> bool:
    return all(one.get("unchanged", False) for one in cell.result["rounds"][1:])


def _privacy(cells: Sequence[Cell]) -> list[Sheet]:
    """Say what privacy costs, and what attacks still tell."""
    ways = list(dict.fromkeys(cell.name.split("/")[1] for cell in cells))
    untouched = {form: _named(cells, form, ways[0]) for form in ("label", "text")}
    rows = [
        [
            "none: the base",
            _shown(untouched["label"], of_round(0, "accuracy"), ".3f"),
            "",
            _shown(untouched["label"], of_round(0, "loss"), ".3f"),
            "",
            _shown(untouched["text"], of_round(0, "loss"), ".3f"),
            "",
            "",
        ]
    ]
    for way in ways:
        labels, texts = (_named(cells, form, way) for form in ("label", "text"))
        rows.append(
            [
                way,
                _shown(labels, lambda cell: cell.accuracy, ".3f"),
                _difference(labels, _named(cells, "label", "as usual"), lambda c: c.accuracy),
                _shown(labels, lambda cell: cell.loss, ".3f"),
                _shown(labels, _auc("loss"), ".3f"),
                _shown(texts, lambda cell: cell.loss, ".3f"),
                _shown(texts, _auc("loss"), ".3f"),
                _shown(texts, _auc("reference"), ".3f"),
            ]
        )
    header = [
        "training",
        "labels: accuracy",
        "less as usual",
        "labels: loss, nats a token",
        "labels: AUC, loss",
        "texts: loss, nats a token",
        "texts: AUC, loss",
        "texts: AUC, reference",
    ]
    rows_told = sorted({cell.result["membership"]["loss"]["rows"] for cell in cells})
    errors = [cell.result["membership"]["loss"]["standard_error"] for cell in cells]
    note = (
        "AUC: how well an attack tells the rows that were trained on from test rows, by their loss "
        "(Yeom et al.) or by that less the untouched base's (Carlini et al.); 0.5 is chance, and a "
        f"run's own standard error {min(errors):.3f} to {max(errors):.3f} with "
        f"{' or '.join(f'{count:,}' for count in rows_told)} trained rows."
    )
    return [Sheet("Local differential privacy", header, rows, note)]


def _auc(attack: str) -> Callable[[Cell], float]:
    return lambda cell: float(cell.result["membership"][attack]["auc"])


def _named(cells: Sequence[Cell], first: str, second: str) -> list[Cell]:
    return [cell for cell in cells if cell.name.startswith(f"{first}/{second}/")]


def _shown(
    cells: Sequence[Cell], of: Callable[[Cell], float], form: str, missing: str = MISSING
) -> str:
    mean = mean_of(cells, of)
    return missing if mean is None else mean.shown(form)


def _difference(cells: Sequence[Cell], others: Sequence[Cell], of: Callable[[Cell], float]) -> str:
    mean = mean_difference(cells, others, of)
    return MISSING if mean is None else mean.shown("+.3f")


_TABLES: Final[dict[str, Callable[[Sequence[Cell]], list[Sheet]]]] = {
    "together": _together,
    "rules": _rules,
    "robustness": _robustness,
    "privacy": _privacy,
}
