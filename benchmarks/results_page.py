"""Writes ``docs/results.md``: every figure of the results, from the JSON that measured it.

    python -m benchmarks.results_page

The page depends on the files in ``docs/results`` and on nothing else. What was not measured is not
there.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.experiments.measured import Cell, cells_of
from benchmarks.experiments.tables import tables_of
from benchmarks.provenance import RESULTS
from benchmarks.results_plots import PLOTS, STUDY_PLOTS
from benchmarks.sheets import Sheet
from blockchain.durable_file import write_durably
from strategies.run_archive import read_json

PAGE: Final = RESULTS.parent / "results.md"

#: Studies of experiments, and what each asks.
_STUDIES: Final = {
    "together": "Is training together worth it? Beside the untouched base, each organization "
    "alone, all rows in one place, and averaging A and B by themselves.",
    "rules": "Which aggregation rule? With equal and with mixed ranks.",
    "robustness": "What can hostile organizations do? With and without the bound on norms, under "
    "every rule and statistic.",
    "privacy": "What does local differential privacy cost, and what do attacks still tell?",
}


def main() -> int:
    """Write the page and its plots."""
    write_durably(PAGE, page(RESULTS))
    draw(RESULTS)
    return 0


def page(folder: Path) -> str:
    """Return the page."""
    parts = [
        "# Results\n\nWritten by `python -m benchmarks.results_page` from the files in "
        "[`results/`](results/); `make bench` measures what is missing. Intervals are of 95 %.\n"
    ]
    for study, question in _STUDIES.items():
        if cells := _cells(study, folder):
            parts.append(_study(study, question, cells))
    for name, section in _SECTIONS.items():
        path = folder / f"{name}.json"
        if path.exists():
            parts.append(section(name, read_json(path)))
    parts.append(_ELSEWHERE)
    return "\n".join(parts)


def draw(folder: Path) -> None:
    """Draw the plots that the page shows, beside the files."""
    for study, draw_study in STUDY_PLOTS.items():
        if cells := _cells(study, folder):
            draw_study(cells, folder / f"{study}.png")
    for name, draw_result in PLOTS.items():
        path = folder / f"{name}.json"
        if path.exists():
            draw_result(read_json(path), path.with_suffix(".png"))


def _cells(study: str, folder: Path) -> list[Cell]:
    path = folder / f"{study}.json"
    return cells_of(study, read_json(path)) if path.exists() else []


def _study(study: str, question: str, cells: Sequence[Cell]) -> str:
    seeds = sorted({cell.seed for cell in cells})
    hours = sum(cell.result["cpu_seconds"] for cell in cells) / 3600
    head = (
        f"## {study.capitalize()}\n\n{question}\n\n"
        f"`python -m benchmarks.experiments run {study} --seed {' '.join(map(str, seeds))}`; "
        f"{len(cells)} runs, {hours:.1f} hours of one core. "
        f"{_measured_on([cell.result for cell in cells])}\n"
    )
    sheets = (sheet.to_markdown() for sheet in tables_of(study, cells))
    return "\n".join([head, _plot(study), *sheets])


def _plot(name: str) -> str:
    return f"![{name.replace('_', ' ').capitalize()}, drawn](results/{name}.png)\n"


def _measured_on(results: Sequence[Mapping[str, Any]]) -> str:
    machines = sorted({f"{one['processor']}, {one['cores']} cores" for one in results})
    commits = sorted({str(one["commit"])[:12] for one in results})
    return f"On {'; '.join(machines)}; commit {', '.join(commits)}."


# What is measured by commands of its own


def _chain(name: str, result: Mapping[str, Any]) -> str:
    rows, (first, then) = result["rows"], result["ledger"]
    gas = Sheet(
        "Gas a call",
        ["organizations", *(name.replace("_", " ") for name in rows[0]["gas"])],
        [[f"{r['organizations']:,}", *(f"{v:,}" for v in r["gas"].values())] for r in rows],
        "Nothing but the answer to a challenge, which carries a proof, grows with the number of "
        f"organizations. The anchors are of a ledger of {first:,} records and then {then:,}: the "
        "proof grows with the ledger. To admit an organization takes three signatures of members; "
        "the first four found the registry together, and are not admitted.",
    )
    seconds = Sheet(
        "Seconds and bytes a round",
        [
            "organizations",
            *(f"{name.replace('_', ' ')}, s" for name in rows[0]["seconds"]),
            "manifest, bytes",
            "an organization's proof, bytes",
        ],
        [
            [
                f"{r['organizations']:,}",
                *(f"{v:.4f}" for v in r["seconds"].values()),
                *(f"{v:,}" for v in r["bytes"].values()),
            ]
            for r in rows
        ],
        "Without training and without updates, which are 83 MiB for a 7B model at rank 16. "
        f"{_what_bounds_chain(rows)}",
    )
    return _section(name, "The chain as organizations grow", result, [gas, seconds])


def _what_bounds_chain(rows: Sequence[Mapping[str, Any]]) -> str:
    few, many = rows[0], rows[-1]
    gas = [sum(row["gas"][name] for name in _GAS_A_ROUND) for row in (few, many)]
    own = sum(many["seconds"][name] for name in _SECONDS_A_ROUND)
    return (
        "**What bounds it.** Not the coordinator's transactions: three a round, of "
        f"{_from_to(gas, ',')} gas, for {few['organizations']} organizations and for "
        f"{many['organizations']:,}. What grows with them is what it checks and signs, "
        f"{own:.1f} s for {many['organizations']:,}; the updates that it receives; and the anchors "
        f"of the organizations' own ledgers, a transaction of {many['gas']['anchor']:,} gas each."
    )


_GAS_A_ROUND: Final = ("open_round", "seal", "attest")
_SECONDS_A_ROUND: Final = ("check_all", "leaves", "receipts", "rewards")


def _aggregation(name: str, result: Mapping[str, Any]) -> str:
    sheet = Sheet(
        "Aggregation at the shapes of a 7B model",
        ["rule", "CPU s", "MiB above inputs", "MiB of one update", "MiB of the adapter"],
        [
            [
                row["rule"] + (f", {row['robust']}" if row.get("robust", "none") != "none" else ""),
                f"{row['cpu_seconds']:.2f}",
                f"{row['above_inputs_mib']:,.0f}",
                f"{row['update_mib']:,.0f}",
                f"{row['adapter_mib']:,.0f}",
            ]
            for row in result["rows"]
        ],
        f"{result['organizations']} organizations, rank {result['rank']}, {result['layers']} "
        f"layers, one core. {_what_bounds_aggregation(result['rows'])}",
    )
    return _section(name, "Aggregation", result, [sheet])


def _what_bounds_aggregation(rows: Sequence[Mapping[str, Any]]) -> str:
    [sums] = [row for row in rows if row["rule"] == "ffa" and row["robust"] == "none"]
    rate = sums["all_updates_mib"] / sums["cpu_seconds"]
    return (
        f"**What bounds it.** Of the sums alone (`ffa`) the values of all updates, at {rate:,.0f} "
        "MiB a second. What the other rules take beyond that was not taken apart; the dense "
        "product stands for what is avoided."
    )


def _growth(name: str, result: Mapping[str, Any]) -> str:
    rounds = result["rounds"]
    sheet = Sheet(
        "A run as organizations grow",
        [
            "organizations",
            *(f"{name}, s a round" for name in ("till all replied", *_PARTS.values())),
            "aggregation, s a round",
            "peak memory, GiB",
            "updates, MiB a round",
            "the coordinator's gas a run",
        ],
        [
            [
                str(row["organizations"]),
                f"{row['waited_seconds']:.0f}",
                *(f"{row['seconds'][name] / rounds:.1f}" for name in _PARTS),
                f"{row['aggregated_seconds']:.2f}",
                f"{row['peak_memory_gib']:.2f}",
                f"{row['updates_mib']:.1f}",
                f"{row['gas_used']:,}",
            ]
            for row in result["rows"]
        ],
        f"{rounds} rounds of {result['records_per_round']} records each, the real model, one after "
        f"the other on this machine; two attestors score each round on "
        f"{result['validation_records']} public rows. Peak memory is that of all processes "
        f"together. {_what_bounds_growth(result['rows'], rounds)}",
    )
    return _section(name, "Cost as organizations grow", result, [sheet])


_PARTS: Final = {"train": "training", "attest": "attesting", "chain": "chain"}


def _what_bounds_growth(rows: Sequence[Mapping[str, Any]], rounds: int) -> str:
    few, many = rows[0], rows[-1]
    per_trained, per_scored = (
        [row["seconds"]["train"] / rounds / row["organizations"] for row in (few, many)],
        # Every attestor scores the adapter, and one without each organization.
        [row["seconds"]["attest"] / rounds / (row["organizations"] + 1) for row in (few, many)],
    )
    more = many["organizations"] - few["organizations"]
    memory = (many["peak_memory_gib"] - few["peak_memory_gib"]) / more * 1024
    return (
        f"**What bounds it.** Training takes {_from_to(per_trained, '.1f')} s an organization: "
        "on machines of their own they train side by side, and a round takes the slowest one's "
        "time. Attesting evaluates one adapter more for each organization, "
        f"{_from_to(per_scored, '.1f')} s for both attestors: it grows on machines of their own as "
        "well, faster than anything else here, and bounds a round of many. All processes "
        f"together take {memory:.0f} MiB more for each organization, whose update of "
        f"{many['updates_mib'] / many['organizations']:.0f} MiB passes through the coordinator and "
        "both attestors."
    )


def _from_to(values: Sequence[float], form: str) -> str:
    low, high = (f"{one:{form}}" for one in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _coordinator(name: str, result: Mapping[str, Any]) -> str:
    rows = result["rows"]
    sheet = Sheet(
        "The coordinator's part of a round",
        [
            "shapes of",
            "organizations",
            *(f"{part}, s" for part in rows[0]["seconds"]),
            "MiB of an update",
            "peak memory, MiB",
        ],
        [
            [
                row["model"],
                str(row["organizations"]),
                *(f"{seconds:.2f}" for seconds in row["seconds"].values()),
                f"{row['update_mib']:.0f}",
                f"{row['peak_mib']:,.0f}",
            ]
            for row in rows
        ],
        f"Rank {result['rank']} on all linear layers, `ffa`, one thread: replies are checked "
        "(signature, values, norm, hash) and stored, aggregated, and the round's state and adapter "
        "written. Peak memory holds the replies, as Flower does. "
        f"{_what_bounds_coordinator(rows[-1])}",
    )
    return _section(name, "Cost as adapters grow", result, [sheet])


def _what_bounds_coordinator(most: Mapping[str, Any]) -> str:
    received = most["organizations"] * most["update_mib"]
    spent = sum(most["seconds"].values())
    grows = most["seconds"]["check"] + most["seconds"]["store"]
    # Mebibytes as bits, by the thousand million of them that a gigabit a second is.
    travelled = received * (1 << 20) * 8 / 1e9
    return (
        f"**What bounds it.** Bytes received: checking and storing them is {grows / spent:.0%} of "
        f"the {spent:.0f} s for {most['organizations']} organizations at the shapes of "
        f"{most['model']}, whose {received:,.0f} MiB would travel {travelled:.0f} s at 1 Gbit/s. "
        "Aggregating and writing grow with the adapter, and hardly with the organizations."
    )


def _throughput(name: str, result: Mapping[str, Any]) -> str:
    ceiling = result["products"]["tokens_per_second_if_products_were_all"]
    sheet = Sheet(
        "The local loop beside transformers' Trainer",
        ["loop", "tokens/s", "times Trainer", "of the ceiling", "held-out loss"],
        [
            [
                _LOOPS.get(name, name),
                f"{row['tokens_per_second']:.0f}",
                " to ".join(f"{f(row['times_trainer']):.2f}" for f in (min, max)),
                f"{row['tokens_per_second'] / ceiling:.0%}",
                f"{row['held_out_loss']:.3f}",
            ]
            for name, row in result["contenders"].items()
        ],
        f"{result['steps']} steps of 16 records, {result['threads']} thread(s), real tokens. The "
        f"ceiling, {ceiling:,.0f} tokens/s, is what the frozen layers' products alone would allow "
        "on the same machine. Ratios are taken within a turn.",
    )
    return _section(name, "Throughput", result, [sheet])


_LOOPS: Final = {
    "trainer": "Trainer, its defaults",
    "trainer-bf16-grouped": "Trainer, bf16, grouped by length",
    "trainer-bf16-grouped-kept": "the same without checkpointing",
    "foedus": "Foedus, both factors",
    "foedus-ffa": "Foedus, `ffa`",
}


def _section(name: str, title: str, result: Mapping[str, Any], sheets: Sequence[Sheet]) -> str:
    head = f"## {title}\n\n`{result['command']}`. {_measured_on([result])}\n"
    return "\n".join([head, _plot(name), *(sheet.to_markdown() for sheet in sheets)])


_SECTIONS: Final[dict[str, Callable[[str, Mapping[str, Any]], str]]] = {
    "chain_scale": _chain,
    "growth": _growth,
    "coordinator": _coordinator,
    "aggregation": _aggregation,
    "training_throughput": _throughput,
}

_ELSEWHERE: Final = """## Elsewhere

- Forgetting, beside retrained models: [unlearning](unlearning.md#figures-so-far), all tables in
  [results/unlearning.md](results/unlearning.md).
- Agents' choices, beside the optimum and fixed ones: [participation](participation.md).
- Contributions: [rewards](rewards.md). The private ledger: [ledger](ledger.md).
- The local loop beside the usual trainer: [training](training.md#where-the-time-goes).
- The contracts under mutations: `results/mutations.json`. Many rounds with faults:
  [reliability](reliability.md#many-rounds).
"""


if __name__ == "__main__":
    sys.exit(main())
