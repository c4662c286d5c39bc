"""Commands of the benchmark of unlearning: ``cell``, ``list`` and ``report``."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.provenance import RESULTS, provenance
from benchmarks.results_file import ResultsFile, key_of
from benchmarks.sheets import Sheet
from benchmarks.unlearning.cells import CASES, FORMS, METHODS, MODELS, Cell, Variant
from benchmarks.unlearning.estimates import Estimates, tokens_a_second
from benchmarks.unlearning.one_cell import measured_cell
from benchmarks.unlearning.report import report
from benchmarks.unlearning.setting import Setting, run_settings
from strategies.home import cache_folder
from strategies.settings import RunSettings

OUTPUT = RESULTS / "unlearning.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command; return 0."""
    options = _parser().parse_args(arguments)
    console, results = Console(stderr=True, width=options.width), ResultsFile(options.output)
    if options.command == "report":
        report(results.read(), options.output.with_suffix(".md"), console)
        return 0
    settings = {form: _setting(options, form) for form in options.form}
    cells = list(_cells(options))
    if options.command == "list":
        console.print(_listed(cells, settings, results.read()).to_rich())
        return 0
    for cell in cells:
        _carry_out(cell, settings[cell.form], options, results, console)
    return 0


def _carry_out(
    cell: Cell,
    setting: Setting,
    options: argparse.Namespace,
    results: ResultsFile,
    console: Console,
) -> None:
    known = results.read()["cells"].get(key_of(cell.name, setting.digest))
    # A replay has the retrained model's bits: nobody asks or attacks it.
    deep = options.deep and cell.model != "exact"
    if known is not None and not options.again and ("deep" in known or not deep):
        console.print(f"{cell.name}: is there", highlight=False)
        return
    folder = options.adapters or cache_folder(setting.run.home_path) / "unlearning-benchmark"
    done = measured_cell(
        cell,
        setting,
        folder,
        known=None if options.again else known,
        again=options.again,
        deep=deep,
        tell=lambda text: console.print(f"{cell.name}: {text}", highlight=False),
    )
    stated = provenance("", "torch")
    stamp = {name: stated[name] for name in ("commit", "processor", "cores")}
    results.put(
        setting.digest, setting.described, {**done, **stamp, "at": datetime.now(UTC).isoformat()}
    )
    console.print(f"{cell.name}: {_shown(done)}", highlight=False)


def _shown(cell: dict[str, Any]) -> str:
    cost = cell["cost"]
    took = f"{cost['trained_tokens']:,} tokens trained, {cost['seconds']:.0f} s"
    if "metrics" not in cell:
        return took
    loss, area = (cell["metrics"][name]["value"] for name in ("forget/loss", "membership/loss"))
    measured = f"measured in {cell['measure_seconds']:.0f} s"
    return f"{took}; forget loss {loss:.3f}, AUC {area:.3f}, {measured}"


def _listed(cells: list[Cell], settings: dict[str, Setting], results: dict[str, Any]) -> Sheet:
    """Say what is there and what the rest would take."""
    rows, total = [], 0
    estimates: dict[tuple[str, int], Estimates] = {}
    shared: set[tuple[str, int, str]] = set()
    for cell in cells:
        setting = settings[cell.form]
        if key_of(cell.name, setting.digest) in results["cells"]:
            rows.append([cell.name, "there", "", ""])
            continue
        counted = estimates.setdefault((cell.form, cell.seed), Estimates(setting, cell.seed))
        tokens, rate = counted.tokens(cell), tokens_a_second(results, setting.digest)
        rows.append(
            [cell.name, "missing", f"{tokens:,}", f"{tokens / rate:,.0f}" if rate else "unknown"]
        )
        # One model, asked about each case's records.
        place = (cell.form, cell.seed, cell.model if cell.is_shared else cell.name)
        total += 0 if place in shared else tokens
        shared.add(place)
    records = ", ".join(
        f"{form} {seed}: {counted.tokens_a_record():.1f}"
        for (form, seed), counted in estimates.items()
    )
    return Sheet(
        "Cells",
        ["cell", "state", "tokens to train, at most", "seconds"],
        rows,
        f"{len(cells)} cells. Of the missing ones {total:,} tokens, what all cases share counted "
        f"once. Tokens a record, canaries among them: {records or '-'}.",
    )


def _cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Name all cells that the options ask for; what others start from comes first."""
    variants = [
        Variant(
            method,
            projection,
            options.recovery_rounds,
            options.unlearning_epochs,
            options.unlearning_rate,
            options.stop_rows,
            options.renormalized,
        )
        for method in options.method
        for projection in options.projection
    ]
    for form in options.form:
        for seed in options.seed:
            for case in options.case:
                for organization in options.organization:
                    for index in [0] if case == "withdrawal" else options.set:
                        for model in sorted(options.model, key=MODELS.index):
                            if model.startswith("isolated") and case != "withdrawal":
                                continue
                            for variant in variants if model == "fast" else [None]:
                                yield Cell(model, case, organization, index, seed, form, variant)


def _setting(options: argparse.Namespace, form: str) -> Setting:
    changes = dict(_change(text) for text in options.config)
    return Setting(
        run=run_settings(**changes),
        form=form,
        records=options.records,
        canaries=options.canaries,
        planted=tuple(options.planted),
        references=options.references,
        hold_out_rows=options.hold_out_rows,
        retain_rows=options.retain_rows,
        test_rows=options.test_rows,
    )


def _change(text: str) -> tuple[str, Any]:
    """Read ``key=value``: a number or true or false as such, anything else as text."""
    key, _, value = text.partition("=")
    name = key.replace("-", "_")
    if name not in RunSettings.model_fields:
        raise SystemExit(f"--config {text}: no setting of a run is called {key}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unlearning", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("cell", "make and measure cells that are not there"),
        ("list", "say which are there, and what the others would take"),
        ("report", "print all tables, and write them beside the JSON"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--output", type=Path, default=OUTPUT, help="the JSON")
        command.add_argument("--width", type=int, help="of what is printed, characters")
        if name != "report":
            _add_choices(command)
            _add_setting(command)
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    usual = asdict(Variant())
    parser.add_argument("--case", nargs="+", choices=CASES, default=["records-10"])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--organization", nargs="+", default=["cinema"], help="who asks")
    parser.add_argument("--set", nargs="+", type=int, default=[0], help="which disjoint set")
    parser.add_argument("--seed", nargs="+", type=int, default=[42])
    parser.add_argument("--form", nargs="+", choices=FORMS, default=["completion"])
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--projection", nargs="+", type=_yes_or_no, default=[False], help="yes, no or both"
    )
    parser.add_argument("--recovery-rounds", type=int, default=usual["recovery_rounds"])
    parser.add_argument("--unlearning-epochs", type=int, default=usual["epochs"])
    parser.add_argument("--unlearning-rate", type=float, default=usual["learning_rate"])
    parser.add_argument("--stop-rows", type=int, default=usual["stop_rows"])
    parser.add_argument(
        "--renormalized", action="store_true", help="weights of those who stay add up to 1"
    )
    parser.add_argument("--again", action="store_true", help="what is there is done again")
    parser.add_argument("--deep", action="store_true", help="relearning, quantization, resurfacing")
    parser.add_argument("--adapters", type=Path, help="where models are kept")


def _add_setting(parser: argparse.ArgumentParser) -> None:
    usual = Setting()
    for name in ("records", "canaries", "references", "hold-out-rows", "retain-rows", "test-rows"):
        default = getattr(usual, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--planted", nargs="+", default=[], help="whose records hold canaries")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of a run that differ, such as model=FOLDER rounds=4",
    )


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"{text}: expected yes or no")
    return text == "yes"


if __name__ == "__main__":
    sys.exit(main())
