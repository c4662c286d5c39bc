"""``foedus ledger anchor | endorse | erase | backup | restore``: what changes a ledger's files."""

from pathlib import Path
from typing import Annotated

import typer

from client_app.cli.chosen import settings_at
from client_app.cli.ledger_member import (
    MemberKey,
    Organization,
    last_anchor,
    member_account,
    numbers,
    one_organization,
    opened_ledger,
)
from client_app.cli.output import AsJson, Home, console, fail, print_json, progress_console


def anchor(organization: Organization = None, home: Home = None, as_json: AsJson = False) -> None:
    """Anchor a ledger on the public chain now; the organization pays for the transaction.

    Example: `foedus ledger anchor --org shop`
    """
    from blockchain.private.anchoring import anchor as anchor_now
    from strategies.run_accounts import organization_chain
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    name = one_organization(settings, organization)
    chain = organization_chain(settings, open_reading_chain(settings), name)
    with opened_ledger(settings, name, "signing") as ledger:
        made = anchor_now(ledger, chain.anchors)
    if as_json:
        print_json(
            {
                "organization": name,
                "anchored": None
                if made is None
                else {
                    "records": made.size,
                    "root": f"0x{made.root.hex()}",
                    "block": made.block,
                    "transaction": f"0x{made.transaction.hex()}",
                },
            }
        )
    elif made is None:
        console.print("all records are anchored already", highlight=False)
    else:
        console.print(f"{made.size} records anchored in block {made.block}", highlight=False)


def endorse(
    record: Annotated[
        int | None, typer.Argument(min=0, help="The record; without it, those that lack some.")
    ] = None,
    organization: Organization = None,
    member: MemberKey = "officer",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Stand behind a record that lacks endorsements, by the officer's key unless told otherwise.

    Example: `foedus ledger endorse 17 --org shop`
    """
    settings = settings_at(home)
    name = one_organization(settings, organization)
    with opened_ledger(settings, name, member) as ledger:
        if record is None:
            waiting = {
                number: {str(role): count for role, count in pending.missing.items()}
                for number, pending in sorted(ledger.history.pending.items())
            }
            if as_json:
                print_json({"organization": name, "pending": waiting})
                return
            for number, missing in waiting.items():
                kind = ledger.leaf(number).type
                lacking = ", ".join(f"{count} {role}" for role, count in missing.items())
                console.print(f"record {number} ({kind}) lacks: {lacking}", highlight=False)
            if not waiting:
                console.print("no record lacks endorsements", highlight=False)
            return
        number = ledger.endorse(record)
        status = ledger.status(record)
    if as_json:
        print_json(
            {"organization": name, "record": record, "endorsement": number, "status": status}
        )
    else:
        console.print(f"record {record} is {status}", highlight=False)


def erase(
    records: Annotated[
        str, typer.Option("--records", help="Numbers of the records, such as 3,7-9.")
    ] = "",
    ids: Annotated[
        str, typer.Option("--ids", help="Ids of records that left the training set, by commas.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, in a word.")] = "retention",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    organization: Organization = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Erase payloads for good: key, salt and ciphertext, from all files of the ledger.

    The records' commitments stay, and every proof still holds. Backups are not touched; what is
    erased here is erased from them when they are restored.

    Example: `foedus ledger erase --org shop --records 17 --reason retention`
    """
    from blockchain.private.data_sets import open_entries

    settings = settings_at(home)
    name = one_organization(settings, organization)
    chosen, wanted = numbers(records, "--records"), [i.strip() for i in ids.split(",") if i.strip()]
    if not chosen and not wanted:
        fail("give --records NUMBERS or --ids IDS", 2)
    with opened_ledger(settings, name, member) as ledger:
        positions = []
        if wanted:
            removed = ledger.history.removed
            gone = [e for e in open_entries(ledger, "to erase") if e.position in removed]
            positions = [entry.position for entry in gone if entry.id in wanted]
            missing = sorted(set(wanted) - {entry.id for entry in gone})
            if missing:
                fail(f"--ids: {len(missing)} of them did not leave the training set of {name}")
        if not yes:
            if as_json:
                fail("--json does not ask: give --yes as well", 2)
            typer.confirm(
                f"Erase {len(chosen)} payloads and {len(positions)} training records of {name}, "
                "for good?",
                abort=True,
                err=True,
            )
        number = ledger.erase(reason, record_numbers=chosen, positions=positions)
        status = "pending" if number in ledger.history.pending else "erased"
        if number in ledger.history.erasing:
            status = "unfinished"
    if as_json:
        print_json({"organization": name, "record": number, "status": status})
    elif status == "erased":
        console.print(f"erased (record {number})", highlight=False)
    else:
        console.print(f"record {number} is {status}: nothing is erased yet", highlight=False)


def backup(
    output: Annotated[Path, typer.Option("--output", help="A new folder for the copies.")],
    organization: Organization = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Copy a ledger, while it is in use, into a new folder.

    Example: `foedus ledger backup --org shop --output /backup/shop-ledger`
    """
    from blockchain.private.backup import back_up

    settings = settings_at(home)
    name = one_organization(settings, organization)
    with opened_ledger(settings, name, "signing") as ledger:
        back_up(ledger, output)
        size = ledger.history.size
    if as_json:
        print_json({"organization": name, "folder": str(output), "records": size})
    else:
        console.print(f"{size} records copied to {output}", highlight=False, soft_wrap=True)


def restore(
    source: Annotated[Path, typer.Option("--from", help="Folder of the backup.")],
    organization: Annotated[str, typer.Option("--org", help="Whose ledger.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the public chain for the last anchor.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in a ledger's place, erased of whatever was erased since.

    A backup that does not hold, or lacks records that were anchored, is refused.

    Example: `foedus ledger restore --org shop --from /backup/shop-ledger`
    """
    from blockchain.private.anchoring import check_anchor
    from blockchain.private.audit import Audited
    from blockchain.private.backup import restore as put_back
    from strategies.home import ledger_folder

    settings = settings_at(home)
    account = member_account(settings, organization, "signing")
    last = None if offline else last_anchor(settings, organization)

    def held(audited: Audited) -> None:
        if last is not None:
            check_anchor(audited.history, last)

    with progress_console.status("verifying the backup"):
        folder = ledger_folder(settings.home_path, organization)
        audited = put_back(folder, source, account, held)
    size = audited.history.size
    if as_json:
        print_json({"organization": organization, "records": size})
    else:
        console.print(f"{size} records restored", highlight=False)
