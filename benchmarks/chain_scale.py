"""What a round costs on the public chain as organizations grow: gas, seconds, bytes.

    python -m benchmarks.chain_scale [--sizes 4,10,30,100,300,1000]

The real contracts on a Hardhat node; every organization is a member there, with a key of its own.
What they would train is random, and nothing is trained: signing, checking, the leaves, the
manifest, the seal, the attestation and the proofs are a run's. A round is opened, signed by all,
sealed and attested; one organization then submits an update by itself in another round, one
challenges an omission, which the coordinator answers by a proof, and one anchors its ledger twice.
"""

import argparse
import hashlib
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance
from blockchain.anchors import AnchorStatement
from blockchain.canonical import canonical_json
from blockchain.chain_records import DisputeTerms
from blockchain.deployment import connect_deployed, deploy
from blockchain.growing_tree import GrowingTree
from blockchain.keys import fund_from_development_account
from blockchain.membership import Change, ChangeKind, Founder, Founding
from blockchain.merkle import organization_id, proof
from blockchain.model_update import receipt_digest
from blockchain.public_chain import PublicChain
from blockchain.typed_data import check_signer, sign_digest
from strategies.attesting import attestation_of
from strategies.replies import Verdict
from strategies.reward_statement import RewardStatement
from strategies.rewards import RewardTable
from strategies.round_notary import RoundNotary
from strategies.round_outcome import Entry, RoundOutcome
from strategies.run_archive import write_json
from strategies.scores import ScoreTable
from strategies.signed_update import SignedUpdate, TaskContext, sign_update
from tests.bare_node import bare_node

OUTPUT: Final = RESULTS / "chain_scale.json"
SIZES: Final = "4,10,30,100,300,1000"
FOUNDERS: Final = 4
THRESHOLD: Final = 3
ATTESTORS: Final = 2
DEADLINE: Final = 2**40
#: Entries of a private ledger: when it is anchored first, and when it is anchored again.
LEDGER: Final = (1000, 1020)
GENESIS: Final = hashlib.sha256(b"genesis").digest()
DISPUTES: Final = DisputeTerms(challenge_window=600, response_window=600, bond=10**15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=SIZES, help=f"organizations (default {SIZES})")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if min(sizes) < FOUNDERS:
        parser.error(f"--sizes: expected {FOUNDERS} organizations or more")
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, federation(size, Path(folder)) as made:
            rows.append({"organizations": size, **measure(made)})
    write_json(
        options.output,
        {
            **provenance(
                f"python -m benchmarks.chain_scale --sizes {options.sizes}",
                *("web3", "eth-account", "coincurve"),
            ),
            "ledger": LEDGER,
            "rows": rows,
        },
    )
    show(rows)


# A federation on a chain


class Federation:
    """Organizations that are members on a chain, and their coordinator."""

    def __init__(self, size: int, folder: Path, chain: PublicChain, admission_gas: int) -> None:
        self.names = [name_of(number) for number in range(size)]
        self.accounts = {name: account(name) for name in self.names}
        self.chain, self.folder, self.admission_gas = chain, folder, admission_gas

    def seconds_of(self, call: Any) -> tuple[float, Any]:
        """Time a call."""
        started = time.perf_counter()
        answer = call()
        return time.perf_counter() - started, answer


def name_of(number: int) -> str:
    return f"organization-{number:04}"


def account(name: str) -> LocalAccount:
    made: LocalAccount = Account.from_key(hashlib.sha256(name.encode()).digest())
    return made


@contextmanager
def federation(size: int, folder: Path) -> Iterator[Federation]:
    """Start a node, found the registry with four organizations, and admit the others."""
    coordinator = account("coordinator")
    with bare_node(folder / "node.log") as settings:
        for one in (coordinator, account(name_of(0))):
            fund_from_development_account(settings, one.address, folder)
        founding = Founding(
            founders=tuple(founder(name_of(number)) for number in range(FOUNDERS)),
            threshold=THRESHOLD,
            attestors=tuple(organization_id(name_of(number)) for number in range(ATTESTORS)),
            attestor_threshold=ATTESTORS,
            coordinators=(coordinator.address,),
            pauser=coordinator.address,
            recovery_delay=86_400,
        )
        deploy(settings, coordinator, folder, lambda: founding)
        chain = connect_deployed(settings, folder, coordinator)
        described = f"{size} organizations: admitting"
        gas = [
            admitted(chain, name_of(number))
            for number in track(
                range(FOUNDERS, size), described, console=Console(stderr=True), transient=True
            )
        ]
        yield Federation(size, folder, chain, round(median(gas)) if gas else 0)


def founder(name: str) -> Founder:
    stated = hashlib.sha256(name.encode()).digest()
    return Founder(organization_id(name), account(name).address, stated, stated)


def admitted(chain: PublicChain, name: str) -> int:
    """Have three of the founders admit an organization; return the gas it took."""
    new = founder(name)
    change = Change(
        ChangeKind.ADMIT_MEMBER,
        nonce=chain.members.next_nonce(),
        deadline=DEADLINE,
        organization=new.organization,
        account=new.key,
        node_key=new.node_key,
        metadata=new.metadata,
        threshold=THRESHOLD,
    )
    approvals = {
        organization_id(name_of(number)): chain.members.approve(change, account(name_of(number)))
        for number in range(THRESHOLD)
    }
    return chain.members.execute(change, approvals).gas_used


# A round


def measure(made: Federation) -> dict[str, Any]:
    """Carry out the rounds, and return gas, seconds and bytes of every part."""
    chain, names = made.chain, made.names
    coordinator = account("coordinator")
    terms = hashlib.sha256(f"terms of {len(names)}".encode()).digest()
    opened = chain.open_task(terms, GENESIS, DISPUTES)
    context = TaskContext(opened.task, terms, chain.domain)
    notary = RoundNotary(chain, context, coordinator)
    notary.open_round(1, GENESIS)
    sign_seconds, signed = made.seconds_of(lambda: signed_by_all(made, context))
    check_seconds, _ = made.seconds_of(lambda: check_all(made, context, signed))
    outcome = outcome_of(context, signed, names)
    leaves_seconds, leaves = made.seconds_of(outcome.leaves)
    seal_seconds, sealed = made.seconds_of(lambda: notary.seal(outcome))
    receipts_seconds, receipts = made.seconds_of(lambda: notary.receipts(outcome, sealed))
    earned = outcome.seal(context.task)
    rewards_seconds, _ = made.seconds_of(
        lambda: [RewardStatement.of(outcome, earned, name) for name in names]
    )
    scores = ScoreTable(
        context.task, 1, GENESIS, "leave-one-out", tuple((name, 1000) for name in names)
    )
    words = {
        name: sign_digest(
            attestation_of(outcome, context.task, name, scores).digest(chain.domain),
            made.accounts[name],
        )
        for name in names[:ATTESTORS]
    }
    attest_seconds, attested = made.seconds_of(lambda: notary.attest(outcome, scores, words))
    included = chain.is_included(context.task, 1, leaves[-1], proof(leaves, len(leaves) - 1))
    if not included:
        raise SystemExit("the last leaf is not under the sealed root")
    depth = max(len(receipt.proof) for receipt in receipts.values())
    return {
        "gas": {
            "admit": made.admission_gas,
            "open_task": opened.receipt.gas_used,
            "open_round": sealed["opening_gas_used"],
            "seal": sealed["gas_used"],
            "attest": attested["gas_used"],
            **disputed(made, context, outcome),
            **anchored(made),
        },
        "seconds": {
            "sign_one": sign_seconds / len(names),
            "check_all": check_seconds,
            "leaves": leaves_seconds,
            "seal": seal_seconds,
            "receipts": receipts_seconds,
            "rewards": rewards_seconds,
            "attest": attest_seconds,
        },
        "bytes": {
            "manifest": len(canonical_json(outcome.manifest(context.task))),
            "proof": 32 * depth,
        },
        "proof_depth": depth,
    }


def signed_by_all(made: Federation, context: TaskContext) -> dict[str, SignedUpdate]:
    return {
        name: sign_update(
            context,
            made.accounts[name],
            name,
            1,
            GENESIS,
            update_hash=hashlib.sha256(name.encode()).digest(),
            num_examples=128,
            deadline=DEADLINE,
        )
        for name in made.names
    }


def check_all(made: Federation, context: TaskContext, signed: dict[str, SignedUpdate]) -> None:
    for name, one in signed.items():
        check_signer(one.update.digest(context.domain), one.signature, made.accounts[name].address)


def outcome_of(
    context: TaskContext, signed: dict[str, SignedUpdate], names: list[str]
) -> RoundOutcome:
    entries = [
        Entry(
            organization=name,
            verdict=int(Verdict.ACCEPTED),
            digest=one.update.digest(context.domain),
            commitment=one.update.commitment,
            num_examples=one.update.num_examples,
            deadline=one.update.deadline,
            signature=one.signature,
            weight=1 / len(names),
        )
        for name, one in signed.items()
    ]
    return RoundOutcome(
        round=1,
        parent_round=0,
        rule="ffa",
        parent=GENESIS,
        adapter=hashlib.sha256(b"adapter").digest(),
        state=hashlib.sha256(b"state").digest(),
        entries=tuple(sorted(entries, key=lambda entry: (entry.organization, entry.digest))),
        absent={},
        rewards=RewardTable(context.task, 0, dict.fromkeys(names, 10**12)),
    )


def disputed(made: Federation, context: TaskContext, outcome: RoundOutcome) -> dict[str, int]:
    """Challenge an update that is there, and answer: an organization that lost its receipt may."""
    first = outcome.entries[0]
    own = made.chain.sent_by(made.accounts[made.names[0]], made.folder)
    update = first.update(context, 1, GENESIS)
    receipt = sign_digest(receipt_digest(first.digest, context.domain), account("coordinator"))
    challenged = own.disputes.challenge(update, receipt, DISPUTES.bond)
    leaves = outcome.leaves()
    answered = made.chain.disputes.answer(context.task, 1, leaves[0], proof(leaves, 0))
    # In a round of its own: what was submitted there would count in no other.
    adapter = outcome.adapter
    made.chain.open_round(context.task, 2, adapter)
    alone = sign_update(
        context,
        made.accounts[made.names[0]],
        made.names[0],
        2,
        adapter,
        update_hash=GENESIS,
        num_examples=128,
        deadline=DEADLINE,
    )
    submitted = own.disputes.submit(alone.update, alone.signature)
    return {
        "challenge": challenged.gas_used,
        "answer": answered.gas_used,
        "submit": submitted.gas_used,
    }


def anchored(made: Federation) -> dict[str, int]:
    """Anchor the last organization's ledger, and again when it has grown."""
    name, anchors = made.names[-1], made.chain.anchors
    tree = GrowingTree(hashlib.sha256(b"%d" % entry).digest() for entry in range(max(LEDGER)))
    gas = []
    for before, size in pairwise((0, *LEDGER)):
        statement = AnchorStatement(organization_id(name), size, tree.root(size), DEADLINE)
        signature = sign_digest(statement.digest(anchors.domain), made.accounts[name])
        extends = tree.consistency_proof(before, size) if before else []
        gas.append(anchors.anchor(statement, signature, extends).gas_used)
    return {"first_anchor": gas[0], "anchor": gas[1]}


def show(rows: list[dict[str, Any]]) -> None:
    """Print gas by call, and what a round takes; a column for each number of organizations."""
    for part, form in (("gas", ","), ("seconds", ".4f"), ("bytes", ",")):
        sizes = [f"{row['organizations']:,}" for row in rows]
        table = Table(f"{part}, organizations:", *sizes)
        for name in rows[0][part]:
            table.add_row(name, *(format(row[part][name], form) for row in rows))
        Console().print(table)
    deepest = rows[-1]
    if deepest["proof_depth"] > math.ceil(math.log2(deepest["organizations"])):
        raise SystemExit("a proof is longer than the tree is deep")


if __name__ == "__main__":
    main()
