"""A run from its terms to its summary."""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from flwr.serverapp import Grid

from blockchain.canonical import hash_arrays
from llm.adapters import save_adapter
from llm.factors import Arrays, arrays_from_adapter
from server_app.closing import close_run
from server_app.model_card import model_card
from server_app.roster import find_members
from server_app.run_log import RunLog
from server_app.summary import summarize
from strategies import protocol
from strategies.aggregation import AggregationRule, AggregationState
from strategies.federated_lora import FederatedLora
from strategies.open_requests import open_requests_about
from strategies.origin import OriginRounds
from strategies.rewards import RewardTerms
from strategies.round_notary import RoundNotary
from strategies.round_terms import Participant, RoundTerms
from strategies.run_archive import RunArchive
from strategies.run_chain import (
    coordinator_account,
    dispute_terms,
    fund_rewards,
    open_writing_chain,
)
from strategies.run_folder import run_folder
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    agreed_terms,
    base_model_name,
)
from strategies.settings import RunSettings, SettingsError
from strategies.signed_update import TaskContext
from strategies.stopped_rounds import StoppedForRequestsError
from strategies.terms import differing_terms, terms_hash


def coordinate(
    settings: RunSettings, grid: Grid, *, ignored: Collection[bytes] | None = None
) -> frozenset[bytes]:
    """Train, close and summarize one run; what happened is in its folder, whatever happens.

    Parameters
    ----------
    settings : RunSettings
        The run's settings.
    grid : Grid
        Flower's connection to the nodes.
    ignored : collection of bytes, optional
        Ids of requests to forget that the run does not stop for, 32 bytes each; by default it
        stops for none.

    Returns
    -------
    frozenset of bytes
        Ids of the requests that it stopped for between two rounds; none where it is finished.

    Raises
    ------
    SettingsError
        If the settings do not fit the run they name; its folder stays as it is.
    """
    started = time.monotonic()
    archive = RunArchive(run_folder(settings))
    try:
        # The lock goes with the process, however that ends.
        with FileLock(archive.folder / "run.lock", timeout=0):
            return _carry_out(settings, grid, archive, started, ignored)
    except Timeout as error:
        raise SettingsError(f"resume: run {archive.name!r} is being carried out now") from error


def _carry_out(
    settings: RunSettings,
    grid: Grid,
    archive: RunArchive,
    started: float,
    ignored: Collection[bytes] | None,
) -> frozenset[bytes]:
    log = RunLog(archive.folder / "run.log")
    earlier_seconds = log.covered_seconds()
    log("run-started", {"resume": settings.resume})
    try:
        _run(settings, grid, archive, log, started, earlier_seconds, ignored)
    except StoppedForRequestsError as stopped:
        log("run-stopped", {"requests": sorted(one.hex() for one in stopped.requests)})
        archive.write_run({**archive.read_run(), "status": "stopped"})
        return stopped.requests
    except BaseException as error:
        line = f"{type(error).__name__}: {error}"
        log("run-failed", {"error": line})
        if not isinstance(error, SettingsError):
            run = archive.read_run() if (archive.folder / "run.json").exists() else {}
            archive.write_run({**run, "status": "failed", "error": line})
        raise
    return frozenset()


def _run(
    settings: RunSettings,
    grid: Grid,
    archive: RunArchive,
    log: RunLog,
    started: float,
    earlier_seconds: float,
    ignored: Collection[bytes] | None,
) -> None:
    rule = agreed_rule(settings)
    terms = agreed_terms(settings, archive.name)
    run = _run_entry(settings, archive, terms)

    chain_started = time.monotonic()
    chain = open_writing_chain(settings, patient=True)
    origin = OriginRounds.of(settings, settings.home_path)
    start = origin.state(rule)
    genesis = hash_arrays(arrays_from_adapter(rule.adapter(start)))
    opened = chain.open_task(terms_hash(terms), genesis, dispute_terms(settings))
    funding = fund_rewards(chain, opened.task, settings)
    chain_seconds = time.monotonic() - chain_started
    archive.write_run({**run, "task": opened.task.hex(), "contracts": chain.addresses})
    log("task-opened", {"run": archive.name, "task": opened.task.hex(), "contract": chain.address})

    def waiting() -> frozenset[bytes]:
        if ignored is None:
            return frozenset()
        return open_requests_about(chain, [opened.task]) - frozenset(ignored)

    context = TaskContext(opened.task, terms_hash(terms), chain.domain)
    notary = RoundNotary(chain, context, coordinator_account(settings))
    strategy = _strategy(settings, rule, archive, notary, log, start, origin, waiting)
    # Before anybody is asked for: the nodes are still starting.
    done = strategy.resume()
    if done:
        log("run-resumed", {"after": done})
    # A round made again needs each who took part in it; what it lacks, it says itself.
    enough = None if settings.requests else settings.min_organizations
    nodes = find_members(
        grid,
        settings.organization_names,
        settings,
        chain,
        enough=enough,
        absent=lambda name, reason: log(
            "organization-missing", {"organization": name, "reason": reason}
        ),
    )
    strategy.admit(_participant(settings, name, node) for name, node in nodes.items())
    log("setup-finished", {"seconds": time.monotonic() - started})

    rounds_left = settings.own_rounds - done
    if rounds_left > 0:
        try:
            strategy.start(
                grid=grid,
                initial_arrays=protocol.array_record(strategy.adapter_arrays()),
                num_rounds=rounds_left,
                timeout=settings.round_deadline,
            )
        except StoppedForRequestsError:
            # What the rounds so far have earned is sealed and told, whatever takes their place.
            strategy.close_rewards(grid)
            close_run(grid, strategy, log, timeout=settings.round_deadline, evaluated=False)
            raise
    strategy.close_rewards(grid)
    closings = close_run(
        grid,
        strategy,
        log,
        timeout=settings.round_deadline,
        # What has come of the unlearning, only they can say.
        needed=settings.first_rounds.unlearners,
    )
    summary = summarize(
        settings=settings,
        archive=archive,
        closings=closings,
        contracts=chain.addresses,
        opening_gas_used=opened.receipt.gas_used + funding,
        seconds={
            "setup": log.logged_seconds("setup-finished"),
            "chain": chain_seconds,
            "attest": log.logged_seconds("attestors-answered"),
            "total": earlier_seconds + time.monotonic() - started,
        },
    )
    path = archive.write_summary(summary)
    archive.write_run({**archive.read_run(), "status": "finished"})
    log("run-finished", {"summary": str(path)})


def _participant(settings: RunSettings, organization: str, node: int) -> Participant:
    rank = settings.rank_of(organization)
    return Participant(organization, node, rank, settings.effort.ranks(rank))


def _run_entry(
    settings: RunSettings, archive: RunArchive, terms: Mapping[str, Any]
) -> dict[str, Any]:
    """Write and return ``run.json``; a resumed run must have the terms it was begun with."""
    if settings.resume:
        run = archive.read_run()
        if "terms" in run and (differences := differing_terms(run["terms"], terms)):
            raise SettingsError(f"resume: the terms differ from the run's: {differences[0]}")
        run = {**run, "status": "running", "terms": dict(terms)}
        run.pop("error", None)
    else:
        run = {
            "version": 1,
            "name": archive.name,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "status": "running",
            "settings": settings.to_run_config(),
            "terms": dict(terms),
        }
    archive.write_run(run)
    return run


def _strategy(
    settings: RunSettings,
    rule: AggregationRule,
    archive: RunArchive,
    notary: RoundNotary,
    log: RunLog,
    start: AggregationState,
    origin: OriginRounds,
    waiting: Callable[[], frozenset[bytes]],
) -> FederatedLora:
    base = base_model_name(settings)

    def save(round_number: int, arrays: Arrays, folder: Path) -> None:
        adapter = adapter_at_scale(arrays, settings)
        card = model_card(
            settings,
            base_model=base,
            run=archive.name,
            task=notary.task,
            round_number=round_number,
            adapter_hash=hash_arrays(arrays),
        )
        save_adapter(folder, adapter, base_model=base, model_card=card)

    first = settings.first_rounds

    def arrived(round_number: int) -> frozenset[str] | None:
        if (alone := first.asked_in(round_number)) is not None:
            return alone
        # Whoever withdrew is in none of the rounds made again.
        replied = origin.arrived(round_number)
        return None if replied is None else replied & set(settings.organization_names)

    return FederatedLora(
        rule=rule,
        archive=archive,
        notary=notary,
        terms=RoundTerms(
            # In isolation an adapter counts whoever else takes part.
            min_organizations=1 if settings.isolation else settings.min_organizations,
            max_examples=settings.records_per_round,
            norm_bound=settings.norm_bound,
            deadline=settings.round_deadline,
            attestors=frozenset(settings.attestor_names),
            rewards=RewardTerms.of(settings),
            leavers=frozenset(settings.leaver_names),
            first=first,
        ),
        save_adapter=save,
        listener=log,
        start=start,
        arrived=arrived,
        gone_on_from=origin.last_adapter,
        waiting=waiting,
    )
