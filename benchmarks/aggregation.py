"""Time and memory of every aggregation rule at the shapes of a 7B model, against the dense product.

    python -m benchmarks.aggregation [--layers 32] [--organizations 10] [--rank 16]

Shapes are Llama-7B's: q, k, v and o 4096 x 4096, gate and up 11008 x 4096, down 4096 x 11008. Each
rule runs in a process of its own, on one core, so that its peak memory is its own and no thread
waits for another's. ``accumulators`` is timed in its second round, when it has something to
re-compress. The dense product is measured on one layer and scaled by the number of layers.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.apart import measured_apart
from benchmarks.memory import peak_of_this_process, reset_peak
from benchmarks.model_shapes import layer_shapes, model_shapes
from benchmarks.provenance import RESULTS, provenance
from llm.factors import LoraFactors
from strategies.aggregation import RULES, STATISTICS, AggregationSettings, Contribution

OUTPUT = RESULTS / "aggregation.json"
LLAMA_7B_LAYER = layer_shapes("Llama-7B")
MIB = 1 << 20
# In the first round there is nothing to re-compress.
TIMED_ROUND = {"accumulators": 2}


def main() -> None:
    options = parse_options()
    if options.measure:
        rule, robust = options.measure
        measured = measure_dense(options) if rule == "dense" else measure(rule, robust, options)
        sys.stdout.write(json.dumps(measured))
        return
    rows = [run(rule, robust, options) for rule, robust in track(list(cases()), "Measuring")]
    write(rows, options)
    show(rows, options)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32, help="transformer layers (default 32)")
    parser.add_argument("--organizations", type=int, default=10)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    parser.add_argument("--measure", nargs=2, metavar=("RULE", "ROBUST"), help=argparse.SUPPRESS)
    return parser.parse_args()


def cases() -> Iterator[tuple[str, str]]:
    yield "dense", "none"
    for rule in RULES:
        yield rule, "none"
        if rule == "ffa":
            yield from ((rule, robust) for robust in STATISTICS if robust != "none")


def run(rule: str, robust: str, options: argparse.Namespace) -> dict[str, object]:
    sizes = [f"--{name}={getattr(options, name)}" for name in ("layers", "organizations", "rank")]
    measured = measured_apart("benchmarks.aggregation", "--measure", rule, robust, *sizes)
    return {"rule": rule, "robust": robust, **measured}


def measure(name: str, robust: str, options: argparse.Namespace) -> dict[str, object]:
    shapes = model_shapes("Llama-7B", options.layers)
    settings = AggregationSettings(rank=options.rank, alpha=2.0 * options.rank, robust=robust)
    rule = RULES[name](settings, shapes)
    started = time.perf_counter()
    state = rule.initial_state()
    rule.adapter(state)
    drawn = time.perf_counter() - started
    number = TIMED_ROUND.get(name, 1)
    rng = np.random.default_rng(0)
    expected = rule.expected_shapes(number, options.rank)
    contributions = [
        Contribution(
            f"organization {k:02}",
            100 + k,
            {n: rng.standard_normal(shape, dtype=np.float32) for n, shape in expected.items()},
        )
        for k in range(options.organizations)
    ]
    for earlier in range(1, number):
        state = rule.aggregate(state, earlier, contributions).state
    update = sum(array.nbytes for array in contributions[0].arrays.values())
    held = reset_peak()
    started, busy = time.perf_counter(), time.process_time()
    aggregate = rule.aggregate(state, number, contributions)
    aggregated = time.perf_counter() - started
    adapter = rule.adapter(aggregate.state)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    peak = peak_of_this_process()
    return {
        "round": number,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_aggregate": aggregated,
        "seconds_initial_adapter": drawn,
        "peak_mib": peak / MIB,
        "above_inputs_mib": (peak - held) / MIB,
        "update_mib": update / MIB,
        "all_updates_mib": update * options.organizations / MIB,
        "state_mib": sum(array.nbytes for array in aggregate.state.arrays.values()) / MIB,
        "adapter_mib": adapter_bytes(adapter) / MIB,
        "adapter_rank": next(iter(adapter.values())).rank,
        "tolerance": rule.tolerance,
        "error": aggregate.error.total if aggregate.error else None,
        "diagnostics": aggregate.diagnostics,
    }


def measure_dense(options: argparse.Namespace) -> dict[str, object]:
    """Form ``sum p_k s B_k A_k`` of one layer densely, in float32 through BLAS."""
    rng = np.random.default_rng(0)
    pairs = [
        {
            module: (
                rng.standard_normal((shape.out_features, options.rank), dtype=np.float32),
                rng.standard_normal((options.rank, shape.in_features), dtype=np.float32),
            )
            for module, shape in LLAMA_7B_LAYER.items()
        }
        for _ in range(options.organizations)
    ]
    held = reset_peak()
    started, busy = time.perf_counter(), time.process_time()
    layer = {}
    for module, shape in LLAMA_7B_LAYER.items():
        layer[module] = np.zeros((shape.out_features, shape.in_features), np.float32)
        for pair in pairs:
            b, a = pair[module]
            layer[module] += (np.float32(2 / options.organizations) * b) @ a
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - busy
    peak = peak_of_this_process()
    update = sum(b.nbytes + a.nbytes for b, a in pairs[0].values()) * options.layers
    dense = sum(matrix.nbytes for matrix in layer.values())
    return {
        "scaled_from_layers": 1,
        "seconds": seconds * options.layers,
        "cpu_seconds": cpu_seconds * options.layers,
        "seconds_one_layer": seconds,
        "above_inputs_mib": (peak - held + dense * (options.layers - 1)) / MIB,
        "peak_one_layer_mib": peak / MIB,
        "peak_mib": (update * options.organizations + dense * options.layers) / MIB,
        "update_mib": update / MIB,
        "all_updates_mib": update * options.organizations / MIB,
        "state_mib": dense * options.layers / MIB,
        "adapter_mib": dense * options.layers / MIB,
        "adapter_rank": None,
    }


def adapter_bytes(adapter: dict[str, LoraFactors]) -> int:
    return sum(pair.a.nbytes + pair.b.nbytes for pair in adapter.values())


def write(rows: list[dict[str, object]], options: argparse.Namespace) -> None:
    report = {
        **provenance(
            f"python -m benchmarks.aggregation --layers {options.layers} "
            f"--organizations {options.organizations} --rank {options.rank}",
            "numpy",
            "foedus",
        ),
        "shapes": {
            module: [shape.out_features, shape.in_features]
            for module, shape in LLAMA_7B_LAYER.items()
        },
        "layers": options.layers,
        "organizations": options.organizations,
        "rank": options.rank,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    aside = options.output.with_suffix(".partial")
    aside.write_text(json.dumps(report, indent=2) + "\n")
    aside.replace(options.output)


def show(rows: list[dict[str, object]], options: argparse.Namespace) -> None:
    table = Table(
        title=f"{options.organizations} organizations, rank {options.rank}, Llama-7B's shapes, "
        f"{options.layers} layers"
    )
    headings = (
        "CPU s",
        "wall s",
        "above inputs, MiB",
        "all updates, MiB",
        "adapter, MiB",
        "adapter rank",
    )
    table.add_column("rule", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        name = row["rule"] if row["robust"] == "none" else f"{row['rule']} {row['robust']}"
        scaled = " (scaled)" if "scaled_from_layers" in row else ""
        table.add_row(
            f"{name}{scaled}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['seconds']:.2f}",
            *(f"{row[key]:,.0f}" for key in ("above_inputs_mib", "all_updates_mib", "adapter_mib")),
            str(row["adapter_rank"] or "full"),
        )
    Console().print(table, f"Written to {options.output}", sep="\n")


if __name__ == "__main__":
    main()
