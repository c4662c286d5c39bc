"""The coordinator's part of a round as organizations become more and adapters larger.

    python -m benchmarks.coordinator [--models ...] [--organizations 2,4,8,16] [--rank 16]

Replies of random values, signed as organizations sign them, go the way of a round: each is checked
and stored, all are aggregated by the default rule, and state, adapter and manifest are written. No
network, no chain (`benchmarks.chain_scale`), no attestors. Every case runs in a process of its own,
on one thread.
"""

import argparse
import hashlib
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.apart import measured_apart
from benchmarks.memory import peak_of_this_process, reset_peak
from benchmarks.model_shapes import MODELS, model_shapes
from benchmarks.provenance import RESULTS, provenance
from llm.adapters import LoraAdapter, save_adapter
from llm.factors import Arrays
from strategies.aggregation import (
    RULES,
    AggregationRule,
    AggregationSettings,
    AggregationState,
    Contribution,
)
from strategies.replies import CheckedReply, Invitation, Verdict, check_reply
from strategies.rewards import RewardTable
from strategies.round_aggregate import aggregate_round
from strategies.round_outcome import Entry, RoundOutcome
from strategies.run_archive import RunArchive, write_json
from strategies.signed_update import TaskContext
from tests.flower_messages import invitation_message, reply_to
from tests.signing_cases import DOMAIN, account_of, signed_reply

OUTPUT: Final = RESULTS / "coordinator.json"
SIZES: Final = "2,4,8,16"
MIB: Final = 1 << 20
RECORDS: Final = 128
CONTEXT: Final = TaskContext(bytes([1]) * 32, bytes([2]) * 32, DOMAIN)
PARENT: Final = hashlib.sha256(b"parent").digest()


def main() -> None:
    options = parse_options()
    if options.measure:
        model, size = options.measure
        sys.stdout.write(json.dumps(measure(model, int(size), options.rank)))
        return
    sizes = [int(size) for size in options.organizations.split(",")]
    cases = [(model, size) for model in options.models for size in sizes]
    rows = [run(*case, options.rank) for case in track(cases, console=Console(stderr=True))]
    command = (
        f"python -m benchmarks.coordinator --models {' '.join(options.models)} "
        f"--organizations {options.organizations} --rank {options.rank}"
    )
    result = {**provenance(command, "flwr", "numpy"), "rank": options.rank, "rows": rows}
    write_json(options.output, result)
    show(rows)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), help="by whose shapes"
    )
    parser.add_argument("--organizations", default=SIZES, help=f"how many (default {SIZES})")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(model: str, size: int, rank: int) -> dict[str, Any]:
    return measured_apart(
        "benchmarks.coordinator", "--rank", str(rank), "--measure", model, str(size)
    )


def measure(model: str, size: int, rank: int) -> dict[str, Any]:
    """Carry out one round, and return what each of its parts took."""
    as_server()
    settings = AggregationSettings(rank=rank, alpha=2.0 * rank)
    rule = RULES["ffa"](settings, model_shapes(model))
    state = rule.initial_state()
    shapes = rule.expected_shapes(1, rank)
    replies = [reply(number, shapes) for number in range(size)]
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        answer = call()
        seconds[name] = time.perf_counter() - started
        return answer

    with tempfile.TemporaryDirectory() as folder:
        archive = RunArchive(Path(folder) / "runs" / "measured")
        held = reset_peak()
        checked = timed("check", lambda: [within_norm(rule, state, *one) for one in replies])
        timed("store", lambda: [archive.store_update(one.arrays or {}) for one in checked])
        result = timed("aggregate", lambda: aggregate_round(rule, state, 1, checked, needed=2))
        timed(
            "write", lambda: write(archive, checked, result.state, result.adapter, settings.alpha)
        )
        peak = peak_of_this_process()
    update = sum(array.nbytes for array in (checked[0].arrays or {}).values())
    return {
        "model": model,
        "organizations": size,
        "seconds": seconds,
        "held_mib": held / MIB,
        "peak_mib": peak / MIB,
        "update_mib": update / MIB,
    }


def as_server() -> None:
    """Be a ServerApp's process, with the identity without which Flower makes no message."""
    # Loaded when first needed, which takes seconds once in a run and is no part of a round.
    importlib.import_module("peft")
    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)


def reply(number: int, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Message, Invitation]:
    """Return an organization's reply, and the invitation that it answers."""
    name, rng = f"organization-{number:02}", np.random.default_rng(number)
    arrays = {key: rng.standard_normal(shape, np.float32) for key, shape in shapes.items()}
    node = 2 + number
    content = signed_reply(CONTEXT, name, 1, PARENT, arrays, RECORDS)
    message = reply_to(invitation_message(node), content, node=node)
    return message, Invitation(name, node, 1, PARENT, [shapes], max_examples=RECORDS)


def within_norm(
    rule: AggregationRule, state: AggregationState, message: Message, invitation: Invitation
) -> CheckedReply:
    """Check a reply as the strategy does, the norm of its update included."""
    keys = (account_of(invitation.organization).address,)
    answer = check_reply(message, invitation, CONTEXT, keys)
    if answer.verdict is not Verdict.ACCEPTED or answer.arrays is None:
        sys.exit(f"{invitation.organization}: {answer.verdict.name}: {answer.reason}")
    rule.update_norm(state, 1, Contribution(answer.organization, RECORDS, answer.arrays))
    return answer


def write(
    archive: RunArchive,
    checked: list[CheckedReply],
    state: AggregationState,
    adapter: Arrays,
    alpha: float,
) -> None:
    """Write the round as a run does: state, adapter, openings and manifest."""
    entries = [Entry.of_reply(one, CONTEXT, 1 / len(checked)) for one in checked]
    outcome = RoundOutcome.of(
        round_number=1,
        parent_round=0,
        rule="ffa",
        parent=PARENT,
        state=state,
        adapter=adapter,
        rewards=RewardTable.empty(CONTEXT.task),
        entries=entries,
        absent={},
    )
    archive.prepare_round(
        1,
        manifest=lambda files: replace(outcome, files=files).manifest(CONTEXT.task),
        openings={one.organization: one.signed.opening for one in checked},
        record={},
        state=state.to_arrays(),
        save_adapter=lambda folder: save_adapter(
            folder, LoraAdapter(adapter, alpha), base_model="measured"
        ),
    )


def show(rows: list[dict[str, Any]]) -> None:
    """Print what the coordinator's part of a round takes."""
    table = Table("model", "organizations", *(f"{name}, s" for name in rows[0]["seconds"]))
    table.add_column("MiB of an update")
    table.add_column("peak, MiB")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["organizations"]),
            *(f"{seconds:.2f}" for seconds in row["seconds"].values()),
            f"{row['update_mib']:.0f}",
            f"{row['peak_mib']:,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
