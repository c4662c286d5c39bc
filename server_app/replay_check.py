"""A run that makes the rounds of a replay once more, to see that they come to the same bits.

What `foedus receipt --replay` asks for. Each organization that took part in a round is sent the
adapter that it began with, and says what it comes to; the stored updates are summed again. Nothing
is written on the chain, and no update travels. What was found is in ``replayed.json`` in the run's
folder, round by round while it goes on.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from blockchain.canonical import hash_arrays
from llm.factors import Arrays, arrays_from_adapter
from server_app.ordered_grid import OrderedGrid
from server_app.replay_settings import settings_of
from server_app.roster import find_members
from strategies import protocol
from strategies.aggregation import AggregationState
from strategies.origin import OriginRounds, kept_contributions, run_of_task, sealed_state
from strategies.protocol import ProtocolError
from strategies.replay_order import ReplayOrder
from strategies.replayable import REPLAYED, differences, replayable_problem
from strategies.reply_errors import error_of
from strategies.round_outcome import Entry, RoundOutcome
from strategies.run_archive import RunArchive, write_json
from strategies.run_chain import open_reading_chain
from strategies.run_parts import agreed_rule
from strategies.run_progress import differing_arrays
from strategies.settings import RunSettings, SettingsError


class ReplayDiffersError(RuntimeError):
    """A round, made once more, comes to something else; one line names the first thing that did."""


def replay(settings: RunSettings, grid: Grid) -> None:
    """Make the rounds of the run that ``run-name`` names once more.

    Raises
    ------
    SettingsError
        If there is no such run, it made no rounds again, or stands no longer.
    ReplayDiffersError
        If something comes out otherwise; all of it is in ``replayed.json``.
    """
    archive = _chosen(settings)
    try:
        with FileLock(archive.folder / "run.lock", timeout=0):
            _Replay(archive, grid).carry_out()
    except Timeout as error:
        raise SettingsError(f"run-name: run {archive.name!r} is being carried out now") from error


def _chosen(settings: RunSettings) -> RunArchive:
    folder = settings.home_path / "runs" / settings.run_name
    if not settings.run_name or not (folder / "run.json").is_file():
        raise SettingsError(
            f"run-name: there is no run {settings.run_name!r} under {settings.home_path}"
        )
    archive = RunArchive(folder)
    if problem := replayable_problem(archive, settings_of(archive)):
        raise SettingsError(f"run-name: {problem}")
    return archive


class _Replay:
    """The rounds of one run, made once more."""

    def __init__(self, archive: RunArchive, grid: Grid) -> None:
        self._archive = archive
        self._settings = settings_of(archive)
        self._task = bytes.fromhex(archive.read_run()["task"])
        self._rule = agreed_rule(self._settings)
        self._initial = arrays_from_adapter(self._rule.adapter(self._rule.initial_state()))
        self._chain = open_reading_chain(self._settings, patient=True)
        replaced = self._settings.kept_rounds.replaced
        origin = archive if replaced is None else run_of_task(archive.home, replaced)
        order = ReplayOrder.of(self._settings, settings_of(origin), origin.name)
        self._grid = OrderedGrid(grid, order)
        self._path: Path = archive.folder / REPLAYED

    def carry_out(self) -> None:
        """Make all rounds once more, in order, and write down what they come to."""
        outcomes = list(_sealed_rounds(self._archive))
        started = datetime.now(UTC).isoformat(timespec="seconds")
        found: dict[str, Any] = {"started": started, "rounds_in_all": len(outcomes), "rounds": []}
        self._write(found, "running")
        nodes = find_members(
            self._grid, self._settings.organization_names, self._settings, self._chain
        )
        for outcome in outcomes:
            found["rounds"].append(self._round(outcome, nodes))
            self._write(found, "running")
        self._write(found, "finished")
        if wrong := differences(found):
            raise ReplayDiffersError(wrong[0])

    def _write(self, found: Mapping[str, Any], status: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self._path, {**found, "status": status, "at": now})

    def _round(self, outcome: RoundOutcome, nodes: Mapping[str, int]) -> dict[str, Any]:
        state = self._state_before(outcome)
        adapter = arrays_from_adapter(self._rule.adapter(state))
        asked = [entry for entry in outcome.entries if entry.signature]
        different = list(self._of_organizations(outcome, asked, adapter, nodes))
        different += self._of_aggregate(outcome, state)
        return {
            "round": self._settings.logical_round(outcome.round),
            "trained": [entry.organization for entry in asked if entry.num_examples],
            "declined": [entry.organization for entry in asked if not entry.num_examples],
            "adapter": outcome.adapter.hex(),
            "differences": different,
        }

    def _state_before(self, outcome: RoundOutcome) -> AggregationState:
        """Return the state that a round began with: what the one it builds on came to."""
        before = outcome.parent_round
        if not before:
            return OriginRounds.of(self._settings, self._archive.home).state(self._rule)
        ended = RoundOutcome.from_manifest(self._archive.manifest(before))
        return self._rule.restore(sealed_state(self._archive, ended))

    # Organizations

    def _of_organizations(
        self,
        outcome: RoundOutcome,
        asked: Iterable[Entry],
        adapter: Arrays,
        nodes: Mapping[str, int],
    ) -> Iterator[str]:
        """Ask everybody who replied in a round what they come to; yield what differs."""
        messages = {
            entry.organization: self._message(
                entry.organization, nodes[entry.organization], outcome.round, adapter
            )
            for entry in asked
        }
        deadline = self._settings.round_deadline
        replies = {
            reply.metadata.reply_to_message_id: reply
            for reply in self._grid.send_and_receive(list(messages.values()), timeout=deadline)
        }
        openings = self._archive.openings(outcome.round)
        for name, message in messages.items():
            reply = replies.get(message.metadata.message_id)
            if reply is None or reply.has_error():
                yield f"{name} did not say: {error_of(reply)}"
                continue
            opening = openings.get(name)
            # Of an update that did not count none is stored: its sender alone can compare.
            stored = None if opening is None else opening.update_hash
            try:
                difference = _read(reply.content, stored)
            except ProtocolError as error:
                difference = f"not in order: {error}"
            if difference:
                yield f"{name}: {difference}"

    def _message(self, name: str, node: int, number: int, adapter: Arrays) -> Message:
        header = {
            "organization": name,
            "task": self._task,
            "run": self._archive.name,
            "round": number,
            "rank": self._settings.rank_of(name),
            "adapter-hash": hash_arrays(adapter),
        }
        travelling = protocol.array_record(differing_arrays(adapter, self._initial))
        return Message(
            content=RecordDict(
                {protocol.ADAPTER: travelling, protocol.HEADER: protocol.header_record(header)}
            ),
            message_type=protocol.AGAIN,
            dst_node_id=node,
            group_id=str(number),
            ttl=self._settings.round_deadline,
        )

    # The coordinator's part

    def _of_aggregate(self, outcome: RoundOutcome, state: AggregationState) -> Iterator[str]:
        """Sum the stored updates again; yield in what the state or the adapter differs."""
        contributions = kept_contributions(self._archive, outcome.round)
        if contributions:
            state = self._rule.aggregate(state, outcome.round, contributions).state
        adapter = hash_arrays(arrays_from_adapter(self._rule.adapter(state)))
        on_chain = self._chain.round(self._task, outcome.round).adapter_hash
        for what, made, stated in (
            ("state", hash_arrays(state.to_arrays()), outcome.state),
            ("adapter", adapter, outcome.adapter),
            ("adapter on chain", adapter, on_chain),
        ):
            if made != stated:
                yield (
                    f"the {what} is 0x{stated.hex()[:16]}…, the updates make "
                    f"0x{made.hex()[:16]}… of it"
                )


def _sealed_rounds(archive: RunArchive) -> Iterator[RoundOutcome]:
    """Yield the rounds of a run that somebody was asked to train in."""
    for number in range(1, (archive.last_prepared_round() or 0) + 1):
        if archive.is_sealed(number):
            outcome = RoundOutcome.from_manifest(archive.manifest(number))
            if outcome.invited:
                yield outcome


def _read(content: RecordDict, stored: bytes | None) -> str:
    """Return in what an organization's answer differs from what it signed then; empty in nothing.

    Raises
    ------
    ProtocolError
        If it is malformed.
    """
    header = content.config_records.get(protocol.HEADER)
    if header is None:
        raise ProtocolError("an answer without a header")
    digest, said = (
        protocol.digest(header, "update-hash"),
        protocol.text(header, "difference")[:500],
    )
    if said or stored is None or digest == stored:
        return said
    return f"it came to an update 0x{digest.hex()[:16]}…, 0x{stored.hex()[:16]}… is stored"
