"""The tables of the studies, each made of its cells and of nothing else."""

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.experiments.measured import Cell, mean_difference, mean_of
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
    for figure, form, of in (
        ("accuracy", ".3f", lambda cell: cell.accuracy),
        ("loss, nats a token", ".3f", lambda cell: cell.loss),
    ):
        rows = []
        for world in worlds:
            by_way = {way: _named(cells, world, way) for way in _WAYS}
            base = mean_of(by_way["federated"], _base(figure))
            rows.append(
                [
                    world,
                    base.shown(form) if base else MISSING,
                    *(_shown(by_way[way], of, form) for way in _WAYS),
                    _difference(by_way["federated"], by_way["alone"], of),
                    _difference(by_way["federated"], by_way["fedit"], of),
                ]
            )
        sheets.append(
            Sheet(
                f"Training together: {figure}",
                [
                    "who holds what",
                    "base",
                    "each alone",
                    "federated (`ffa`)",
                    "A and B averaged (`fedit`)",
                    "all rows in one place",
                    "federated less alone",
                    "federated less `fedit`",
                ],
                rows,
                "Mean over organizations' test rows after the last round, and over seeds, with "
                "95 % intervals (Student's t); differences seed by seed. All ways take the same "
                "number of records.",
            )
        )
    return [*sheets, _by_organization(cells, worlds), _sent(cells, worlds)]


def _base(figure: str) -> Callable[[Cell], float]:
    key = figure.split(",", maxsplit=1)[0]
    return lambda cell: float(cell.result["rounds"][0][key])


def _by_organization(cells: Sequence[Cell], worlds: Sequence[str]) -> Sheet:
    rows = []
    for world in worlds:
        by_way = {way: _named(cells, world, way) for way in _WAYS}
        names = by_way["federated"][0].last["tests"] if by_way["federated"] else {}
        for name in names:

            def of(cell: Cell, name: str = name) -> float:
                return float(cell.last["tests"][name]["accuracy"])

            def commonest(cell: Cell, name: str = name) -> float:
                return float(cell.last["tests"][name]["commonest"])

            told = [one for one in by_way["federated"] if "commonest" in one.last["tests"][name]]

            rows.append(
                [
                    world,
                    name,
                    _shown(told, commonest, ".3f"),
                    *(_shown(by_way[way], of, ".3f") for way in _WAYS),
                ]
            )
    header = [
        "who holds what",
        "organization",
        "commonest label",
        "alone",
        "federated",
        "`fedit`",
        "in one place",
    ]
    note = (
        "On the organization's own test rows. Commonest label: how often it is the right one. What "
        f"those that train alone come to on the others' rows: {_on_others(cells, worlds)}."
    )
    return Sheet("Training together: accuracy of each organization", header, rows, note)


def _on_others(cells: Sequence[Cell], worlds: Sequence[str]) -> str:
    shown = []
    for world in worlds:
        found = [one for one in _named(cells, world, "alone") if "others_accuracy" in one.last]
        shown.append(f"{world} {_shown(found, lambda one: one.last['others_accuracy'], '.3f')}")
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

                def of(cell: Cell, number: int = number) -> float:
                    return float(cell.result["rounds"][number]["accuracy"])

                rows.append([world, way, str(number), f"{sent:,.1f}", _shown(found, of, ".3f")])
    header = ["who holds what", "way", "rounds", "MiB sent by all", "accuracy"]
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
            _shown(untouched["label"], _base("accuracy"), ".3f"),
            "",
            _shown(untouched["label"], _base("loss"), ".3f"),
            "",
            _shown(untouched["text"], _base("loss"), ".3f"),
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
