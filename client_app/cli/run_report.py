"""What a finished run prints: the table of results, the contracts, where things lie."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_report(summary: Mapping[str, Any], console: Console) -> None:
    """Print a run's summary for people."""
    table = Table(title=f"Run {summary['run']}: held-out test rows, {summary['rounds']} rounds")
    table.add_column("organization", no_wrap=True)
    table.add_column("domain")
    for name in ("rows", "test rows", "base", "federated"):
        table.add_column(name, justify="right")
    for name, entry in summary["organizations"].items():
        table.add_row(
            name,
            Text(entry["domain"]),
            f"{entry['rows']:,}",
            f"{entry['test_rows']:,}",
            _share(entry["base_accuracy"]),
            _share(entry["accuracy"]),
        )
    table.add_section()
    table.add_row(
        "mean", "", "", "", _share(summary["mean_base_accuracy"]), _share(summary["mean_accuracy"])
    )
    console.print(table)
    console.print(_participation(summary))
    if summary["general_text_loss"]:
        general = summary["general_text_loss"]
        console.print(
            f"loss on general text: base {general['base']:.3f}, federated "
            f"{general['adapter']:.3f} nats a token",
            highlight=False,
        )
    for contract, address in summary["chain"]["contracts"].items():
        console.print(f"contract {contract}: {address}", highlight=False)
    seals, gas = summary["chain"]["seals"], summary["chain"]["gas_used"]
    console.print(
        f"chain: {len(seals)} rounds sealed, {len(summary['chain']['attested'])} attested, "
        f"{gas:,} gas in all",
        highlight=False,
    )
    console.print(
        "one operator holds all keys here, coordinator's and organizations': a simulation",
        highlight=False,
    )
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items())
    console.print(f"seconds: {seconds}", highlight=False, soft_wrap=True)
    console.print(f"adapter: {summary['adapter']}", highlight=False, soft_wrap=True)
    console.print(f"log: {summary['log']}", highlight=False, soft_wrap=True)
    console.print(
        "`foedus verify` checks the run against the chain, `foedus ledger verify` the "
        "organizations' private ledgers",
        highlight=False,
        soft_wrap=True,
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _participation(summary: Mapping[str, Any]) -> Table:
    """Return who took part in which round, with how much effort, and what came of it."""
    table = Table(title="Who took part, with how much effort, and what each round earned (gwei)")
    table.add_column("organization", no_wrap=True)
    for number in range(1, summary["rounds"] + 1):
        table.add_column(f"round {number}")
    for name in ("tokens", "spent (gwei)", "earned (gwei)"):
        table.add_column(name, justify="right")
    for name, entry in summary["organizations"].items():
        table.add_row(
            name,
            *(
                one["did"] + (f"\n{one['earned_gwei']:,}" if one["earned_gwei"] else "")
                for one in entry["rounds"]
            ),
            f"{entry['tokens']:,}",
            f"{entry['spent_gwei']:,}",
            f"{entry['reward_gwei']:,}",
        )
    return table
