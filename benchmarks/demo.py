"""`make demo` measured: accuracy, time and memory, against training on all rows pooled.

    python -m benchmarks.demo [--home FOLDER]

Runs `make demo` (in a fresh home unless one is given), sampling the memory of everything it
starts: PSS, so that pages shared between processes count once. Then it trains on the
four organizations' rows pooled in one place, with the same settings and as many steps in total
(one warm-up, and a learning rate that falls to zero at the end), and evaluates on the same test
rows. Stopped between the two and called again with the same home, it goes on with the second.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.memory import watched
from benchmarks.provenance import RESULTS, provenance
from client_app.own_data import load_own_data
from llm.adapters import LoraAdapter
from llm.base_model import load_base_model
from llm.draw import draw
from llm.evaluation import evaluate
from llm.factors import B_SUFFIX, arrays_from_adapter
from llm.records import Record
from llm.training import TrainedPart, train, training_seed
from strategies.home import cache_folder
from strategies.run_archive import newest_run, read_json, write_json
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    base_model_settings,
    training_settings,
)
from strategies.settings import RunSettings

#: The defaults' bars: mean accuracy, points above the base, points within pooled training.
BARS = {"mean_accuracy": 0.87, "points_above_base": 13.0, "points_below_pooled": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, help="an empty or existing home folder")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="foedus-demo-"))
    measured = home / "demo-measured.json"
    if not measured.exists():
        summary, peak_bytes, seconds = run_demo(home)
        write_json(measured, {"summary": summary, "peak": peak_bytes, "seconds": seconds})
    earlier = read_json(measured)
    summary, peak_bytes, seconds = earlier["summary"], earlier["peak"], earlier["seconds"]
    settings = RunSettings(home=str(home))
    pooled = train_pooled(settings)
    mean_pooled = fmean(pooled["accuracy"].values())
    result = {
        **provenance("python -m benchmarks.demo", "torch", "flwr", "transformers", "bitsandbytes"),
        "demo": summary,
        "wall_seconds": seconds,
        "peak_memory_gib": peak_bytes / 2**30,
        "pooled": pooled,
        "mean_pooled_accuracy": mean_pooled,
        "points_above_base": 100 * (summary["mean_accuracy"] - summary["mean_base_accuracy"]),
        "points_below_pooled": 100 * (mean_pooled - summary["mean_accuracy"]),
        "bars": BARS,
    }
    for path in ("adapter", "log"):
        result["demo"].pop(path)
    write_json(RESULTS / "demo.json", result)
    show(result)


def run_demo(home: Path) -> tuple[dict[str, Any], int, float]:
    """Run the demo; return its summary, the peak of everything's memory in bytes, and seconds."""
    started = time.monotonic()
    done = watched(
        ["make", "--no-print-directory", "demo"],
        Path(__file__).parents[1],
        {**os.environ, "FOEDUS_HOME": str(home)},
        home,
    )
    archive = newest_run(home)
    if done.status or archive is None:
        sys.exit(f"make demo failed with status {done.status}")
    summary = read_json(archive.folder / "summary.json")
    return summary, done.peak_bytes, time.monotonic() - started


def train_pooled(settings: RunSettings) -> dict[str, Any]:
    """Train on all organizations' rows in one place, for as many steps as the demo takes in all."""
    cache = cache_folder(settings.home_path)
    base = load_base_model(base_model_settings(settings), cache)
    rule = agreed_rule(settings)
    data = {name: load_own_data(settings, name, cache) for name in settings.organization_names}
    rows: list[Record] = [record for each in data.values() for record in each.train]
    initial = arrays_from_adapter(rule.adapter(rule.initial_state()))
    count = settings.rounds * settings.records_per_round * len(data)
    drawn = draw(rows, count, seed=settings.seed, round=1, organization="pooled")
    with Progress() as progress:
        line = progress.add_task("pooled training", total=None)
        result = train(
            base,
            drawn,
            adapter_at_scale(initial, settings),
            TrainedPart(train_a=False, train_b=True, rank=settings.rank),
            # One long run that ended at its peak rate would end noisily: this is the fairer rival.
            training_settings(settings, 1).model_copy(
                update={"warmup_steps": 8, "schedule": "linear"}
            ),
            seed=training_seed(str(settings.seed), 1, "pooled"),
            progress=lambda step, steps, _: progress.update(line, completed=step, total=steps),
        )
    trained = dict(initial)
    for name, change in result.arrays.items():
        if not name.endswith(B_SUFFIX):
            raise ValueError(f"{name}: expected an update of B alone")
        trained[name] = initial[name] + change
    adapter: LoraAdapter = adapter_at_scale(trained, settings)
    return {
        "steps": result.steps,
        "seconds": result.seconds,
        "tokens": result.tokens,
        "accuracy": {
            name: evaluate(base, each.test, adapter, max_tokens=settings.max_tokens).accuracy
            for name, each in data.items()
        },
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures beside their bars."""
    table = Table("figure", "measured", "bar")
    demo = result["demo"]
    table.add_row("mean accuracy", f"{demo['mean_accuracy']:.3f}", f">= {BARS['mean_accuracy']}")
    table.add_row(
        "points above the base",
        f"{result['points_above_base']:.1f}",
        f">= {BARS['points_above_base']}",
    )
    table.add_row(
        f"points below pooled ({result['mean_pooled_accuracy']:.3f}, same steps)",
        f"{result['points_below_pooled']:.1f}",
        f"<= {BARS['points_below_pooled']}",
    )
    table.add_row("job, seconds", f"{demo['seconds']['total']:.0f}", "<= 600")
    table.add_row("peak memory, GiB", f"{result['peak_memory_gib']:.2f}", "<= 6")
    Console().print(table)


if __name__ == "__main__":
    main()
