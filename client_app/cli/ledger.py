"""``foedus ledger``: an organization's private ledger, shown and verified."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from client_app.cli import ledger_disclosure, ledger_members, ledger_writing
from client_app.cli.chosen import settings_at
from client_app.cli.ledger_member import (
    MemberKey,
    Organization,
    last_anchor,
    member_account,
    one_organization,
    opened_ledger,
)
from client_app.cli.output import (
    AsJson,
    Home,
    console,
    fail,
    print_json,
    progress_console,
    report,
    shown_time,
)

if TYPE_CHECKING:
    from blockchain.private.anchoring import Stretch
    from blockchain.private.ledger import Ledger
    from strategies.settings import RunSettings

app = typer.Typer(
    help="An organization's private ledger: what it did, provably unaltered.",
    no_args_is_help=True,
)
app.command("anchor")(ledger_writing.anchor)
app.command("endorse")(ledger_writing.endorse)
app.command("erase")(ledger_writing.erase)
app.command("backup")(ledger_writing.backup)
app.command("restore")(ledger_writing.restore)
app.command("package")(ledger_disclosure.package)
app.command("members")(ledger_members.members)
app.command("card")(ledger_members.card)
app.command("admit")(ledger_members.admit)
app.command("dismiss")(ledger_members.dismiss)

_EXACT_FLOAT = re.compile(r"-?0x[01]\.[0-9a-f]+p[+-][0-9]+")

Offline = Annotated[
    bool, typer.Option("--offline", help="Do not ask the public chain for the last anchor.")
]


@app.command()
def show(
    organization: Organization = None,
    record: Annotated[
        int | None, typer.Option("--record", min=0, help="Open this record; the reading is logged.")
    ] = None,
    training_records: Annotated[
        int | None,
        typer.Option("--records", min=1, help="Name so many records of the training set."),
    ] = None,
    reads: Annotated[bool, typer.Option("--reads", help="Show who opened what.")] = False,
    record_type: Annotated[
        str | None, typer.Option("--type", help="List records of this type alone.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="List the last so many.")] = 20,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show a ledger: its figures and last records, one record, or records of the training set.

    Example: `foedus ledger show --org shop --type training-run`
    """
    settings = settings_at(home)
    name = one_organization(settings, organization)
    if sum((record is not None, training_records is not None, reads)) > 1:
        fail("give one of --record, --records and --reads", 2)
    with opened_ledger(settings, name, member) as ledger:
        if record is not None:
            _show_record(ledger, record, as_json)
        elif training_records is not None:
            _show_training(ledger, training_records, as_json)
        elif reads:
            _show_reads(ledger, limit, as_json)
        else:
            _show_ledger(settings, name, ledger, record_type, limit, as_json)


@app.command()
def verify(
    organization: Organization = None,
    package: Annotated[
        Path | None,
        typer.Option("--package", help="Check this disclosure package; no ledger is needed."),
    ] = None,
    offline: Offline = False,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild ledgers from their raw records, and hold them against the public chain.

    All that lie under the home, unless one is named. Names the first block and field that fails,
    and exits with 1. Payloads that the member cannot open are checked by their ciphertexts alone.

    Example: `foedus ledger verify --org shop`
    """
    settings = settings_at(home)
    if package is not None:
        ledger_disclosure.verify_package(settings, package, offline=offline, as_json=as_json)
        return
    from client_app.ledger_view import ledgers_here

    names = [one_organization(settings, organization)] if organization else []
    names = names or ledgers_here(settings.home_path)
    if not names:
        fail(f"there is no ledger under {settings.home_path}", 2)
    results = [_verified(settings, name, member, offline=offline) for name in names]
    if as_json:
        print_json(results[0] if organization else {"ledgers": results})
    else:
        for result in results:
            console.print(_in_words(result), markup=False, highlight=False, soft_wrap=True)
    if not all(result["holds"] for result in results):
        raise typer.Exit(1)


def _verified(settings: "RunSettings", name: str, member: str, *, offline: bool) -> dict[str, Any]:
    from blockchain.errors import ChainError
    from blockchain.private.anchoring import check_anchor
    from blockchain.private.audit import audit
    from blockchain.private.errors import InvalidLedgerError, LedgerError
    from strategies.home import ledger_folder

    folder, account = (
        ledger_folder(settings.home_path, name),
        member_account(settings, name, member),
    )
    result: dict[str, Any] = {"organization": name, "holds": False, "problem": None}
    try:
        with Progress(console=progress_console, transient=True) as bar:
            task = bar.add_task(f"verifying {name}", total=None)
            audited = audit(
                folder, account, lambda done, total: bar.update(task, completed=done, total=total)
            )
        history = audited.history
        result |= {
            "blocks": history.height,
            "records": history.size,
            "payloads_opened": audited.opened,
            "payloads_not_readable": audited.closed,
            "reads": audited.reads,
            "pending": sorted(history.pending),
            "root": f"0x{history.tree.root().hex()}",
            "anchored": None,
        }
        if not offline:
            last = last_anchor(settings, name)
            check_anchor(history, last)
            result["anchored"] = {"records": last.size, "block": last.block}
        result["holds"] = True
    except InvalidLedgerError as error:
        result["problem"] = {
            "block": error.block,
            "record": error.record,
            "field": error.field,
            "detail": error.detail,
        }
    except (LedgerError, ChainError) as error:
        result["problem"] = {"block": None, "record": None, "field": None, "detail": str(error)}
    return result


def _in_words(result: dict[str, Any]) -> str:
    name, problem = result["organization"], result["problem"]
    if problem is not None:
        place = [
            f"{what} {problem[what]}" for what in ("block", "record") if problem[what] is not None
        ]
        place += [problem["field"]] if problem["field"] else []
        return f"{name}: FAILS: {', '.join(place)}{': ' if place else ''}{problem['detail']}"
    words = f"{name}: holds: {result['blocks']} blocks, {result['records']} records"
    if result["payloads_not_readable"]:
        words += f", {result['payloads_not_readable']} payloads not readable by this member"
    if result["pending"]:
        words += f", pending: {', '.join(map(str, result['pending']))}"
    anchored = result["anchored"]
    if anchored is None:
        return words + "; not held against the public chain"
    return words + f"; {anchored['records']} anchored"


def _show_ledger(
    settings: "RunSettings",
    name: str,
    ledger: "Ledger",
    record_type: str | None,
    limit: int,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from blockchain.errors import ChainError
    from blockchain.private.record_types import TYPES
    from client_app.ledger_view import overview, record_line
    from client_app.own_record import failed_anchor
    from strategies.home import organization_folder

    if record_type is not None and record_type not in TYPES:
        fail(f"--type {record_type!r:.80}: expected one of {', '.join(TYPES)}", 2)
    try:
        last, unreachable = last_anchor(settings, name), ""
    except ChainError as error:
        last, unreachable = None, str(error)
    figures, failure = overview(ledger, last), ""
    if last is not None:
        failure = failed_anchor(organization_folder(settings.home_path, name), last.size)
    lines = [record_line(ledger, leaf) for leaf in ledger.leaves(record_type)[-limit:]]
    if as_json:
        stated = {"organization": name, **asdict(figures), "anchor_failure": failure or None}
        print_json({**stated, "last_records": lines})
        return
    table = Table("record", "time", "type", "by", "status", title=f"Private ledger of {name}")
    for line in lines:
        table.add_row(
            str(line["record"]),
            shown_time(line["time"]),
            line["type"],
            line["role"],
            line["status"],
        )
    console.print(table)
    console.print(
        f"{figures.blocks} blocks, {figures.records} records, {figures.training_set:,} records in "
        "the training set",
        highlight=False,
    )
    if figures.pending:
        console.print(
            f"lacking endorsements: {', '.join(map(str, figures.pending))} "
            "(`foedus ledger endorse`)",
            highlight=False,
        )
    if figures.erasing:
        console.print("an erasure is not finished; it goes on at the next opening", highlight=False)
    if figures.stretch is None:
        console.print(f"anchors: {unreachable}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(
            f"{_stretch(figures.stretch)}; {_interval(settings.anchor_interval)}", highlight=False
        )
    if failure:
        report(f"the last try to anchor failed: {failure}")


def _stretch(stretch: "Stretch") -> str:
    if not stretch.records:
        return "all records are anchored"
    return f"not anchored yet: {stretch.records} records, the oldest for {stretch.seconds} s"


def _interval(rounds: int) -> str:
    if not rounds:
        return "a run anchors nothing (anchor-interval 0)"
    return f"a run anchors after every {'round' if rounds == 1 else f'{rounds} rounds'}"


def _show_record(ledger: "Ledger", record: int, as_json: bool) -> None:
    from client_app.ledger_view import record_whole

    shown = record_whole(ledger, ledger.read(record, "foedus ledger show"))
    if as_json:
        print_json(shown)
        return
    for key in ("record", "type", "status", "author", "role"):
        console.print(f"{key}: {shown[key]}", highlight=False, markup=False)
    console.print(f"time: {shown_time(shown['time'])}", highlight=False)
    for part in (shown["leaf"]["body"], shown["payload"]):
        for key, value in (part or {}).items():
            console.print(
                f"  {key}: {_legible(value)}", highlight=False, markup=False, soft_wrap=True
            )


def _legible(value: Any) -> Any:
    """Give exact floats, which stand as hexadecimal text, as people read them."""
    if isinstance(value, str) and _EXACT_FLOAT.fullmatch(value):
        return f"{float.fromhex(value):.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_legible(one)}" for key, one in value.items())
    return value


def _show_training(ledger: "Ledger", count: int, as_json: bool) -> None:
    from client_app.ledger_view import training_ids

    ids = training_ids(ledger, count)
    if as_json:
        print_json({"records": ids})
        return
    for one in ids:
        console.print(one, highlight=False, markup=False)


def _show_reads(ledger: "Ledger", limit: int, as_json: bool) -> None:
    from dataclasses import asdict

    found = ledger.reads()[-limit:]
    if as_json:
        print_json({"reads": [asdict(read) for read in found]})
        return
    table = Table("read", "time", "by", "records", "purpose")
    for read in found:
        table.add_row(
            str(read.number), shown_time(read.time), read.role, read.records, read.purpose
        )
    console.print(table)
