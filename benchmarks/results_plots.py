"""The plots of ``docs/results.md``, each drawn from the figures of one file and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from benchmarks.experiments.measured import Cell, Mean, mean_of, of_round

_Result = Mapping[str, Any]


def draw_rounds(cells: Sequence[Cell], path: Path) -> None:
    """Draw the mean accuracy of every way by round and by bytes, a column of panels a world."""
    worlds = list(dict.fromkeys(cell.name.split("/")[0] for cell in cells))
    with _figure(
        path, len(worlds), "accuracy, mean of organizations", rows=2, height=5.4, sharey=True
    ) as panels:
        for column, world in enumerate(worlds):
            by_round, by_bytes = panels[column], panels[len(worlds) + column]
            for color, way in enumerate(("alone", "federated", "fedit", "pooled")):
                found = [cell for cell in cells if cell.name.startswith(f"{world}/{way}/")]
                if not found:
                    continue
                rounds = found[0].result["rounds"]
                means = [mean_of(found, of_round(n, "accuracy")) for n in range(len(rounds))]
                line = {"color": f"C{color}", "label": way}
                _band(by_round, range(len(rounds)), means, line)
                if any(one["upload_bytes"] for one in rounds):
                    sent = np.cumsum([one["upload_bytes"] for one in rounds]) / (1 << 20)
                    _band(by_bytes, sent, means, line)
            by_round.set_title(world)
            by_round.set_xlabel("rounds")
            by_round.xaxis.get_major_locator().set_params(integer=True)
            by_bytes.set_xlabel("MiB sent by all")
        panels[0].legend()


def _band(panel: Any, places: Sequence[float], means: Sequence[Mean], line: _Result) -> None:
    """Draw means, and their intervals where there are several seeds."""
    values = np.array([mean.value for mean in means])
    panel.plot(places, values, marker="o", **line)
    if all(mean.half is not None for mean in means):
        halves = np.array([mean.half for mean in means])
        low, high = values - halves, np.minimum(values + halves, 1.0)
        panel.fill_between(places, low, high, color=line["color"], alpha=0.12, linewidth=0)


def draw_rules(cells: Sequence[Cell], path: Path) -> None:
    """Draw each rule's accuracy, with its interval where there are several seeds."""
    rules = list(dict.fromkeys(cell.name.split("/")[0] for cell in cells))
    with _figure(path, 1, "accuracy, mean of organizations") as [panel]:
        for shift, ranks in ((-0.1, "equal ranks"), (0.1, "mixed ranks")):
            for place, rule in enumerate(rules):
                found = [cell for cell in cells if cell.name.startswith(f"{rule}/{ranks}/")]
                mean = mean_of(found, lambda cell: cell.accuracy)
                if mean is not None:
                    panel.errorbar(
                        place + shift,
                        mean.value,
                        yerr=mean.half,
                        marker="o" if shift < 0 else "s",
                        color="C0" if shift < 0 else "C1",
                        label=ranks if place == 0 else None,
                    )
        panel.set_xticks(range(len(rules)), rules)
        panel.legend()


def draw_robustness(cells: Sequence[Cell], path: Path) -> None:
    """Draw accuracy under every attack and rule, as a map."""
    rules = list(dict.fromkeys(cell.name.split("/")[0] for cell in cells))
    attacks = list(dict.fromkeys(cell.name.split("/", 1)[1].rpartition("/")[0] for cell in cells))
    values = np.full((len(attacks), len(rules)), np.nan)
    for cell in cells:
        rule, rest = cell.name.split("/", 1)
        place = attacks.index(rest.rpartition("/")[0]), rules.index(rule)
        same = [
            c.accuracy for c in cells if c.name.rpartition("/")[0] == f"{rule}/{attacks[place[0]]}"
        ]
        values[place] = np.mean(same)
    with _figure(path, 1, "", width=1.0 + 0.9 * len(rules), height=0.6 + 0.28 * len(attacks)) as [
        panel
    ]:
        panel.imshow(values, vmin=_WORST, vmax=_BEST, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=_ink(value))
        panel.set_xticks(range(len(rules)), [rule.replace(", ", ",\n") for rule in rules])
        panel.set_yticks(range(len(attacks)), attacks)


#: Ends of the colours: what is guessed, and what is about the best.
_WORST: Final = 0.4
_BEST: Final = 0.9


def _ink(value: float) -> str:
    return "white" if value < (_WORST + _BEST) / 2 else "black"


def draw_privacy(cells: Sequence[Cell], path: Path) -> None:
    """Draw what privacy costs in accuracy, and what an attack still tells."""
    ways = list(dict.fromkeys(cell.name.split("/")[1] for cell in cells))
    lines: list[tuple[str, str, Callable[[Cell], float]]] = [
        ("label", "labels: accuracy", lambda cell: cell.accuracy),
        ("label", "labels: AUC of the loss", _auc("loss")),
        ("text", "texts: AUC of the loss", _auc("loss")),
        ("text", "texts: AUC beside the base", _auc("reference")),
    ]
    with _figure(path, 1, "accuracy; AUC of membership") as [panel]:
        for form, label, of in lines:
            points = [
                (place, mean)
                for place, way in enumerate(ways)
                if (mean := mean_of([c for c in cells if c.name.startswith(f"{form}/{way}/")], of))
            ]
            panel.errorbar(
                [place for place, _ in points],
                [mean.value for _, mean in points],
                yerr=[mean.half or 0.0 for _, mean in points],
                marker="o",
                label=label,
            )
        panel.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
        panel.set_xticks(range(len(ways)), ways)
        panel.legend()


def _auc(attack: str) -> Callable[[Cell], float]:
    return lambda cell: float(cell.result["membership"][attack]["auc"])


def draw_chain(result: _Result, path: Path) -> None:
    """Draw gas a call and seconds a round by the number of organizations, on logarithmic axes."""
    rows = result["rows"]
    sizes = [row["organizations"] for row in rows]
    with _figure(path, 2, "") as panels:
        for panel, kind, unit in zip(panels, ("gas", "seconds"), ("gas a call", "s"), strict=True):
            for name in rows[0][kind]:
                # Who founds the registry is not admitted: that has no gas, and no logarithm.
                points = [(size, row[kind][name]) for size, row in zip(sizes, rows, strict=True)]
                there = [(size, value) for size, value in points if value]
                panel.loglog(*zip(*there, strict=True), marker="o", label=name.replace("_", " "))
            panel.set_xlabel("organizations")
            panel.set_ylabel(unit)
            panel.margins(y=0.35)
            panel.legend(fontsize=5, ncols=3, loc="upper left")


def draw_growth(result: _Result, path: Path) -> None:
    """Draw seconds a round and peak memory by the number of organizations."""
    rows, rounds = result["rows"], result["rounds"]
    sizes = [row["organizations"] for row in rows]
    with _figure(path, 2, "") as [seconds, memory]:
        for name in ("train", "attest", "chain"):
            values = [row["seconds"][name] / rounds for row in rows]
            seconds.plot(sizes, values, marker="o", label=name)
        values = [row["aggregated_seconds"] for row in rows]
        seconds.plot(sizes, values, marker="o", label="aggregate")
        seconds.set_ylabel("s a round")
        seconds.legend()
        memory.plot(sizes, [row["peak_memory_gib"] for row in rows], marker="o")
        memory.set_ylabel("peak memory, GiB, all processes")
        for panel in (seconds, memory):
            panel.set_xlabel("organizations")
            panel.set_ylim(bottom=0)


def draw_coordinator(result: _Result, path: Path) -> None:
    """Draw the coordinator's seconds a round and peak memory, one line a model's shapes."""
    with _figure(path, 2, "") as [seconds, memory]:
        for model in dict.fromkeys(row["model"] for row in result["rows"]):
            rows = [row for row in result["rows"] if row["model"] == model]
            sizes = [row["organizations"] for row in rows]
            spent = [sum(row["seconds"].values()) for row in rows]
            seconds.plot(sizes, spent, marker="o", label=model)
            memory.plot(sizes, [row["peak_mib"] / 1024 for row in rows], marker="o", label=model)
        seconds.set_ylabel("s a round")
        memory.set_ylabel("peak memory, GiB")
        seconds.legend()
        for panel in (seconds, memory):
            panel.set_xlabel("organizations")
            panel.set_ylim(bottom=0)


def draw_aggregation(result: _Result, path: Path) -> None:
    """Draw time and memory of every rule, on logarithmic axes."""
    rows = result["rows"]
    names = [
        row["rule"] if row.get("robust", "none") == "none" else f"{row['rule']}, {row['robust']}"
        for row in rows
    ]
    with _figure(path, 2, "", sharey=True) as [seconds, memory]:
        seconds.barh(names, [row["cpu_seconds"] for row in rows])
        seconds.set_xlabel("CPU seconds")
        memory.barh(names, [row["above_inputs_mib"] for row in rows], color="C1")
        memory.set_xlabel("MiB above the inputs")
        seconds.invert_yaxis()
        for panel in (seconds, memory):
            panel.set_xscale("log")


def draw_throughput(result: _Result, path: Path) -> None:
    """Draw every loop's tokens a second under the ceiling."""
    contenders = result["contenders"]
    with _figure(path, 1, "") as [panel]:
        panel.barh(list(contenders), [one["tokens_per_second"] for one in contenders.values()])
        ceiling = result["products"]["tokens_per_second_if_products_were_all"]
        panel.axvline(ceiling, color="grey", linestyle=":", label="frozen layers' products alone")
        panel.invert_yaxis()
        panel.set_xlabel("real tokens a second")
        panel.legend()


#: Plots of studies, and of what is measured by commands of its own: each from the file of its name.
STUDY_PLOTS: Final[dict[str, Callable[[Sequence[Cell], Path], None]]] = {
    "together": draw_rounds,
    "rules": draw_rules,
    "robustness": draw_robustness,
    "privacy": draw_privacy,
}
PLOTS: Final[dict[str, Callable[[_Result, Path], None]]] = {
    "chain_scale": draw_chain,
    "growth": draw_growth,
    "coordinator": draw_coordinator,
    "aggregation": draw_aggregation,
    "training_throughput": draw_throughput,
}


@contextmanager
def _figure(
    path: Path,
    panels: int,
    ylabel: str,
    *,
    sharey: bool = False,
    rows: int = 1,
    width: float | None = None,
    height: float = 2.9,
) -> Iterator[list[Any]]:
    """Give the panels of a figure, row by row, and write it when they are drawn."""
    with mpl.rc_context({"font.size": 8, "legend.fontsize": 7, "lines.markersize": 3}):
        size = (width or max(3.0 * panels, 5.0), height)
        figure, axes = plt.subplots(rows, panels, figsize=size, sharey=sharey, squeeze=False)
        try:
            for row in axes:
                row[0].set_ylabel(ylabel)
            yield list(axes.flat)
            figure.tight_layout()
            # Without the version of the program: the same figures make the same file.
            figure.savefig(path, dpi=130, metadata={"Software": None})
        finally:
            plt.close(figure)
