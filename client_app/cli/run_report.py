"""What a finished run prints: the table of results, the contracts, where things lie."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: What is said of a round in few letters.
_SHORT: Final = {"declined": "-", "trained": "yes"}


def print_report(summary: Mapping[str, Any], console: Console, *, simulated: bool) -> None:
    """Print a run's summary for people; ``simulated``: all of it was on this machine."""
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
    if simulated:
        console.print(
            "one operator holds all keys here, coordinator's and organizations': a simulation",
            highlight=False,
        )
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items())
    console.print(f"seconds: {seconds}", highlight=False, soft_wrap=True)
    console.print(f"adapter: {summary['adapter']}", highlight=False, soft_wrap=True)
    console.print(f"log: {summary['log']}", highlight=False, soft_wrap=True)
    ledgers = (
        "the organizations' private ledgers" if simulated else "at each organization its ledger"
    )
    console.print(
        f"`foedus verify` checks the run against the chain, `foedus ledger verify` {ledgers}",
        highlight=False,
        soft_wrap=True,
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


#: More rounds than this have no columns of their own.
_SHOWN_ROUNDS: Final = 10


def _participation(summary: Mapping[str, Any]) -> Table:
    """Return who took part in which round, with how much effort, and what came of it."""
    rounds = summary["rounds"]
    table = Table(
        title="Who took part with how much effort, and what that earned (thousand gwei)",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column("organization", no_wrap=True)
    columns = [str(n) for n in range(1, rounds + 1)] if rounds <= _SHOWN_ROUNDS else ["rounds"]
    for name in columns:
        table.add_column(name, no_wrap=True)
    for name in ("tokens", "spent", "earned"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, entry in summary["organizations"].items():
        did = [_SHORT.get(one["did"], one["did"]) for one in entry["rounds"]]
        earned = [
            f"{one['earned_gwei'] // 1000:,}" if one["earned_gwei"] else ""
            for one in entry["rounds"]
        ]
        shown = (
            [f"{what}\n{wei}" for what, wei in zip(did, earned, strict=True)]
            if rounds <= _SHOWN_ROUNDS
            else [", ".join(f"{count} {what}" for what, count in Counter(did).most_common())]
        )
        table.add_row(
            name,
            *shown,
            f"{entry['tokens']:,}",
            f"{entry['spent_gwei'] // 1000:,}",
            f"{entry['reward_gwei'] // 1000:,}",
        )
    return table
