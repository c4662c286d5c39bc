"""``foedus receipt``: what was done about a request to forget, held against both chains."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from client_app.cli.chosen import settings_at
from client_app.cli.output import AsJson, Home, console, fail, print_json, report

if TYPE_CHECKING:
    from strategies.settings import RunSettings
    from unlearning.receipt import Receipt


def receipt(
    request: Annotated[str, typer.Argument(help="Id of the request, or its first digits.")],
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Of an exact replay: have every organization make its rounds once more, on this "
            "machine, and compare.",
        ),
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Print the receipt of a request to forget, and check it.

    Its evidence is hashed and held against the public chain, the attestors' and the organization's
    signatures are checked, the adapters before and after are those of the rounds on chain, every
    round made again was attested; the salted commitment is opened where the organization's ledger
    lies here. Exit status 1 names what does not hold.

    With `--replay` the rounds that were made again are made once more, as long and as costly as
    then: each organization holds what it comes to against the update it signed, and the stored
    updates are summed again. Nothing of it goes to the chain.

    Examples: `foedus receipt 0x4f2a`, `foedus receipt 0x4f2a --replay`
    """
    from client_app.receipt_check import check_receipt
    from strategies.run_chain import open_reading_chain
    from unlearning.receipt import MEANINGS, ReceiptError, read_receipt

    settings = settings_at(home)
    path = _path(settings.home_path, request.removeprefix("0x").lower())
    problem, done = "", []
    try:
        found = read_receipt(path.read_bytes())
        done = check_receipt(found, open_reading_chain(settings))
        done += _opened(settings, found)
    except ReceiptError as error:
        problem = str(error)
        if as_json:
            print_json({"file": str(path), "holds": False, "problem": problem})
            raise typer.Exit(1) from None
        fail(f"{path}: {problem}")
    again: dict[str, Any] | None = _replayed(settings.home_path, found) if replay else None
    if again is not None:
        problem = _difference(again)
        if not problem:
            done.append(_made_once_more(again))
    if as_json:
        print_json(
            {
                "file": str(path),
                "holds": not problem,
                "problem": problem or None,
                "checked": done,
                **({} if again is None else {"replay": again}),
                "meaning": MEANINGS[found.evidence.label],
                **found.model_dump(mode="json"),
            }
        )
    else:
        _print(found, done, MEANINGS[found.evidence.label])
        if problem:
            report(f"{path}: {problem}")
    if problem:
        raise typer.Exit(1)


def _path(home: Path, digits: str) -> Path:
    """Return the receipt's file: the coordinator's, or an organization's own."""
    if len(digits) < 4 or not set(digits) <= set("0123456789abcdef"):
        fail(f"{digits[:70]!r}: expected a request's id, or its first four digits or more", 2)
    places = ("runs/*/receipts", "organizations/*/receipts")
    found = {
        path.stem: path
        for place in reversed(places)
        for path in sorted(home.glob(f"{place}/{digits}*.json"))
    }
    if not found:
        fail(f"there is no receipt of a request 0x{digits[:16]} under {home}", 2)
    if len(found) > 1:
        fail(f"0x{digits[:16]} begins {len(found)} requests: give more digits", 2)
    return next(iter(found.values()))


def _replayed(home: Path, found: "Receipt") -> dict[str, Any]:
    """Have the rounds that the receipt is about made once more."""
    from client_app.cli.replay_run import replayed
    from strategies.run_archive import RunArchive

    evidence = found.evidence
    if evidence.label != "EXACT_REPLAY":
        fail(f"--replay: the label is {evidence.label}: no round was made again exactly", 2)
    folder = home / "runs" / evidence.after.run
    if not (folder / "run.json").is_file():
        fail(f"--replay: run {evidence.after.run} is not under {home}: ask its coordinator", 2)
    return replayed(RunArchive(folder))


def _difference(again: dict[str, Any]) -> str:
    """Return the first thing that came out otherwise, in words; empty where nothing did."""
    from strategies.replayable import differences

    found = differences(again)
    if not found:
        return ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"made once more, {found[0]}{more}"


def _made_once_more(again: dict[str, Any]) -> str:
    rounds = ", ".join(str(one["round"]) for one in again["rounds"])
    trained = sum(len(one["trained"]) for one in again["rounds"])
    return f"made once more, to the same bits: round {rounds} ({trained} updates)"


def _opened(settings: "RunSettings", found: "Receipt") -> list[str]:
    """Open the request's commitment, where the organization's ledger and key lie here."""
    from blockchain.unlearning_messages import UnlearningScope, subject_commitment
    from client_app.ledger_opening import opened
    from client_app.ledger_view import ledgers_here
    from client_app.own_request import request_record
    from strategies.run_accounts import organization_account, organizations_with_keys
    from unlearning.receipt import ReceiptError

    asked = found.evidence.request
    name = asked.organization
    here = {*ledgers_here(settings.home_path)} & {*organizations_with_keys(settings)}
    if name not in here:
        return []
    with opened(settings.home_path, name, organization_account(settings, name)) as ledger:
        record = request_record(ledger, bytes.fromhex(asked.id))
    if record is None:
        raise ReceiptError(f"the ledger of {name} knows of no such request")
    scope = UnlearningScope[asked.scope.upper()]
    made = subject_commitment(bytes.fromhex(record.salt), scope, record.positions)
    if made.hex() != asked.subject:
        raise ReceiptError(f"the ledger of {name} opens another commitment")
    what = f"{len(record.positions)} records" if record.positions else "all data"
    return [f"the commitment is to {what} of {name}, as its ledger says"]


def _print(found: "Receipt", done: list[str], meaning: str) -> None:
    evidence = found.evidence
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rounds = ", ".join(map(str, evidence.rounds)) or "none"
    lines: list[tuple[str, Any]] = [
        ("request", f"0x{evidence.request.id}"),
        ("of", f"{evidence.request.organization} ({evidence.request.scope})"),
        ("label", evidence.label),
        ("", meaning),
        ("rounds", rounds),
        ("before", _place(evidence.before)),
        ("after", _place(evidence.after)),
        ("retrained model", evidence.reference),
        ("purged", "; ".join(_purged(one) for one in evidence.purged) or "nothing"),
        ("backups until", evidence.backups_until),
    ]
    for one in evidence.metrics:
        figures = " -> ".join(_figure(value) for value in (one.before, one.after))
        lines.append((f"{one.organization} {one.name}", f"{figures} ({one.rows} rows)"))
    lines += [("checked", line) for line in done]
    for name, value in lines:
        table.add_row(name, str(value))
    console.print(table, highlight=False)


def _place(place: Any) -> str:
    return f"run {place.run}, round {place.round}: 0x{place.adapter}"


def _purged(one: Any) -> str:
    return f"{one.run} from round {one.first_round}: {one.files} files, {one.bytes:,} bytes"


def _figure(value: str | None) -> str:
    return "-" if value is None else f"{float.fromhex(value):.4f}"
