"""``foedus ledger package``, and ``verify --package``: records shown to an auditor, with proofs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_app.cli.chosen import settings_at
from client_app.cli.ledger_member import (
    MemberKey,
    Organization,
    numbers,
    one_organization,
    opened_ledger,
)
from client_app.cli.output import AsJson, Home, console, fail, print_json

if TYPE_CHECKING:
    from blockchain.private.package import Shown
    from strategies.settings import RunSettings


def package(
    output: Annotated[Path, typer.Option("--output", help="The package's file.")],
    records: Annotated[
        str, typer.Option("--records", help="Numbers of the records, such as 3,7-9.")
    ] = "",
    ids: Annotated[
        str,
        typer.Option("--ids", help="Ids of records that are or were in the training set."),
    ] = "",
    organization: Organization = None,
    member: MemberKey = "signing",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Disclose records, and nothing else of the ledger, with proofs that lead to an anchored root.

    `foedus ledger verify --package FILE` checks the package, without the ledger.

    Example: `foedus ledger package --org shop --records 3,7 --output shop.json`
    """
    from blockchain.durable_file import write_durably
    from blockchain.merkle import organization_id
    from blockchain.private.package import AnchoredRoot
    from blockchain.private.package_making import make_package
    from strategies.run_chain import open_reading_chain

    settings = settings_at(home)
    name = one_organization(settings, organization)
    chosen, wanted = numbers(records, "--records"), [i.strip() for i in ids.split(",") if i.strip()]
    if not chosen and not wanted:
        fail("give --records NUMBERS or --ids IDS", 2)
    anchors = open_reading_chain(settings).anchors
    last = anchors.last(organization_id(name))
    if not last.size:
        fail(f"nothing of {name}'s ledger is anchored yet: `foedus ledger anchor --org {name}`")
    anchored = AnchoredRoot(
        size=last.size,
        root=last.root.hex(),
        chain_id=anchors.domain.chain_id,
        contract=anchors.domain.contract,
        block=last.block,
    )
    with opened_ledger(settings, name, member) as ledger:
        made = make_package(ledger, anchored, chosen, wanted)
    content = made.encoded()
    write_durably(output, content, 0o600)
    if as_json:
        print_json(
            {
                "organization": name,
                "file": str(output),
                "records": len(made.records),
                "entries": len(made.entries),
                "bytes": len(content),
            }
        )
    else:
        console.print(
            f"{len(made.records)} records and {len(made.entries)} training records disclosed in "
            f"{output} ({len(content):,} bytes)",
            highlight=False,
            soft_wrap=True,
        )


def verify_package(settings: "RunSettings", path: Path, *, offline: bool, as_json: bool) -> None:
    """Check a package, and its anchor against the chain unless told not to; exit 1 if it fails."""
    from blockchain.private.errors import InvalidLedgerError
    from blockchain.private.package import MAX_PACKAGE_BYTES, read_package

    try:
        with path.open("rb") as file:
            content = file.read(MAX_PACKAGE_BYTES + 1)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 2)
    try:
        shown = read_package(content)
        if not offline:
            _check_anchored(settings, shown)
    except InvalidLedgerError as error:
        if as_json:
            print_json(
                {
                    "holds": False,
                    "problem": {
                        "record": error.record,
                        "field": error.field,
                        "detail": error.detail,
                    },
                }
            )
            raise typer.Exit(1) from None
        fail(f"{path}: {error}")
    if as_json:
        print_json({"holds": True, "problem": None, **_laid_out(shown), "anchor_held": not offline})
        return
    stated = shown.package.anchor
    for number, leaf in sorted(shown.leaves.items()):
        payload = shown.payloads.get(number)
        what = "disclosed" if payload is not None else "commitment alone"
        console.print(
            f"record {number}: {leaf.type}" + (f" ({what})" if leaf.sealed else ""),
            highlight=False,
        )
    for entry in shown.package.entries:
        gone = "" if entry.without is None else f", gone from it since record {entry.without}"
        console.print(
            f"training record {entry.id}: in the set of record {entry.data_set}{gone}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"holds under the root of {stated.size} records"
        + (
            ", which was not held against the public chain"
            if offline
            else f", anchored in block {stated.block}"
        ),
        highlight=False,
    )


def _check_anchored(settings: "RunSettings", shown: "Shown") -> None:
    from blockchain.private.errors import InvalidLedgerError
    from strategies.run_chain import open_reading_chain

    anchors = open_reading_chain(settings).anchors
    stated, domain = shown.package.anchor, anchors.domain
    if (stated.chain_id, stated.contract) != (domain.chain_id, domain.contract):
        raise InvalidLedgerError(
            "anchor",
            f"of contract {stated.contract} on chain {stated.chain_id}, this home knows "
            f"{domain.contract} on chain {domain.chain_id}",
        )
    made = anchors.history(bytes.fromhex(shown.package.organization))
    if shown.anchor not in [event.anchor for event in made]:
        raise InvalidLedgerError(
            "anchor", f"no anchor of {stated.size} records with root 0x{stated.root} was made"
        )


def _laid_out(shown: "Shown") -> dict[str, Any]:
    return {
        "organization": f"0x{shown.package.organization}",
        "ledger": f"0x{shown.package.ledger}",
        "anchor": shown.package.anchor.model_dump(mode="json"),
        "records": [
            {
                "record": number,
                "type": leaf.type,
                "time": leaf.time,
                "author": leaf.author,
                "body": leaf.body,
                "payload": shown.payloads[number].model_dump(mode="json")
                if number in shown.payloads
                else None,
            }
            for number, leaf in sorted(shown.leaves.items())
        ],
        "entries": [entry.model_dump(mode="json") for entry in shown.package.entries],
    }
