"""A run in which nothing new is learned: the open requests to forget are carried out.

For every run under the home that no other one has replaced: what is left undone of an earlier
attempt is done first, then the requests that are open now, all of them by one replay. What cannot
be done now is said, and stays open.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout
from flwr.serverapp import Grid

from blockchain.errors import ChainError
from blockchain.merkle import organization_id
from blockchain.unlearning_messages import UnlearningScope
from blockchain.unlearning_requests import StoredRequest
from server_app.closing import ClosingError
from server_app.coordinator import coordinate
from server_app.ordered_grid import OrderedGrid
from server_app.receipts import Receipts, label_of
from server_app.replay_plans import Plan, ask_for_plans
from server_app.replay_settings import (
    changed,
    forgetting,
    last_logical_round,
    leaving_away,
    replaying,
    root_of,
    runs_with_tasks,
    settings_of,
)
from server_app.roster import RosterError, find_members
from server_app.run_log import RunLog
from strategies.open_requests import open_requests
from strategies.origin import run_of_task
from strategies.replay_order import ReplayOrder
from strategies.round_outcome import Entry, RoundOutcome
from strategies.run_archive import RunArchive, write_json
from strategies.run_chain import open_writing_chain
from strategies.setting_checks import fast_problem
from strategies.settings import RunSettings, SettingsError
from strategies.stopped_rounds import UnlearningRefusedError
from unlearning.replay_plan import SignedPlan

#: Seconds that an organization with an open request has to connect.
_CONNECT_SECONDS = 60.0


def unlearn(settings: RunSettings, grid: Grid) -> None:
    """Carry out what organizations asked to be forgotten.

    Raises
    ------
    SettingsError
        If there is no such run, or another process carries out requests now.
    """
    home = settings.home_path
    standing = standing_runs(home)
    if settings.run_name:
        standing = [archive for archive in standing if archive.name == settings.run_name]
        if not standing:
            raise SettingsError(
                f"run-name: there is no run {settings.run_name!r} under {home} that stands as it is"
            )
    try:
        with FileLock(home / "runs" / "unlearning.lock", timeout=0):
            _carry_out_all(standing, grid)
    except Timeout as error:
        raise SettingsError("another process carries out requests to forget now") from error


def _carry_out_all(standing: Collection[RunArchive], grid: Grid) -> None:
    """Look at each run; one whose chain is gone keeps nothing of the others waiting."""
    failed: list[ChainError] = []
    for archive in standing:
        try:
            _StandingRun(archive, grid).carry_out()
        except ChainError as error:
            failed.append(error)
            reason = f"{type(error).__name__}: {error}"
            RunLog(archive.folder / "run.log")("requests-not-looked-for", {"reason": reason})
    if failed and len(failed) == len(standing):
        raise failed[-1]


def standing_runs(home: Path) -> list[RunArchive]:
    """Return the runs that opened a task and that no other run has replaced, oldest first."""
    # Runs that replaced rounds of one another all go on from one first task: the newest stands.
    standing: dict[bytes, RunArchive] = {}
    for archive, settings, task in runs_with_tasks(home):
        standing[root_of(settings, task)] = archive
    return list(standing.values())


class _StandingRun:
    """One run that stands, and the requests about it."""

    def __init__(self, archive: RunArchive, grid: Grid) -> None:
        self._archive = archive
        self._grid = grid
        self._settings = settings_of(archive)
        self._task = bytes.fromhex(archive.read_run()["task"])
        self._log = RunLog(archive.folder / "run.log")
        self._chain = open_writing_chain(self._settings, patient=True)

    def carry_out(self) -> None:
        """Do what is left of an earlier attempt, then what is asked now."""
        if self._settings.requests and not self._finished_replay():
            return
        self._receipts(self._archive).bring_again()
        asked = self._open_requests()
        self._log("requests-found", {"open": [one.request.id.hex() for one in asked]})
        plans = self._plans(asked)
        affected = []
        for one in asked:
            plan = plans.get(one.request.id)
            if plan is None:
                continue
            if plan.rounds:
                affected.append(one)
            else:
                self._receipts(self._archive).nothing_to_forget(one, plan)
        fast = [one for one in affected if plans[one.request.id].method == "fast"]
        if problem := fast_problem(self._settings) if fast else "":
            self._refuse([one.request.id for one in fast], problem)
            fast = []
        exact = [one for one in affected if plans[one.request.id].method == "exact"]
        if not fast:
            if exact:
                self._replay(exact, plans)
            return
        # First of all: whoever asked for that does not wait for rounds to be made again.
        follows = self._unlearn_fast(fast, plans)
        if exact and follows is not None:
            _StandingRun(follows, self._grid).carry_out()

    # What is asked

    def _open_requests(self) -> list[StoredRequest]:
        """Return the open requests about the run, and about any it took the place of, by age.

        But for those that it carries out itself: they wait for their receipts alone.
        """
        root = root_of(self._settings, self._task)
        family = [
            task
            for _, settings, task in runs_with_tasks(self._archive.home)
            if root_of(settings, task) == root
        ]
        own = self._settings.request_ids
        found = [one for one in open_requests(self._chain, family) if one.request.id not in own]
        return sorted(found, key=lambda one: (one.requested_at, one.request.id))

    def _plans(self, asked: Collection[StoredRequest]) -> dict[bytes, Plan]:
        """Return, by request, the rounds it is about; of one that nobody can say, nothing."""
        names = {organization_id(name): name for name in self._settings.organization_names}
        plans: dict[bytes, Plan] = {}
        by_name: dict[str, list[bytes]] = {}
        for one in asked:
            identifier, name = one.request.id, names.get(one.request.organization)
            if name is None:
                self._refuse([identifier], "the organization has no part in the run as it stands")
            elif one.request.scope is UnlearningScope.ORGANIZATION:
                if self._settings.partition != "none":
                    self._refuse(
                        [identifier],
                        f"the run divides one data set among its organizations (partition "
                        f"{self._settings.partition!r}): without one, all others' data would be "
                        "another",
                    )
                    continue
                # Known without its word; but that it is to be fast, only the organization says.
                plans[identifier] = Plan(self._rounds_with(name), None)
                by_name.setdefault(name, []).append(identifier)
            else:
                by_name.setdefault(name, []).append(identifier)
        for identifier, answer in self._planned(by_name).items():
            if isinstance(answer, SignedPlan):
                if identifier not in plans or answer.plan.method == "fast":
                    plans[identifier] = Plan(answer.plan.rounds, answer)
            elif identifier not in plans:
                self._refuse([identifier], answer)
        return plans

    def _planned(self, by_name: Mapping[str, list[bytes]]) -> dict[bytes, SignedPlan | str]:
        """Ask the organizations about their requests; what each says, or why it says nothing."""
        order = ReplayOrder.of(self._settings, self._settings, self._archive.name)
        grid = OrderedGrid(self._grid, order)
        reached, unreached = {}, dict[bytes, SignedPlan | str]()
        for name, identifiers in by_name.items():
            try:
                nodes = find_members(
                    grid, [name], self._settings, self._chain, timeout=_CONNECT_SECONDS
                )
                reached[name] = (nodes[name], identifiers)
            except RosterError as error:
                unreached |= dict.fromkeys(identifiers, str(error))
        return unreached | ask_for_plans(
            grid,
            reached,
            task=self._task,
            run=self._archive.name,
            rounds=self._last_round(),
            deadline=self._settings.round_deadline,
            chain=self._chain,
        )

    def _rounds_with(self, name: str) -> tuple[int, ...]:
        """Return the logical rounds in which an organization trained, as the manifests say."""
        return tuple(
            number
            for number in range(1, self._last_round() + 1)
            if any(e.organization == name and e.num_examples for e in self._entries(number))
        )

    def _entries(self, logical: int) -> tuple[Entry, ...]:
        kept, archive, number = self._settings.kept_rounds, self._archive, logical
        if logical <= kept.after:
            task, number = kept.place_of(logical)
            archive = run_of_task(archive.home, task)
        else:
            number = logical - kept.after
        return RoundOutcome.from_manifest(archive.manifest(number)).entries

    def _last_round(self) -> int:
        """Return the last logical round that the run came to."""
        return last_logical_round(self._archive, self._settings)

    def _refuse(self, identifiers: Iterable[bytes], reason: str) -> None:
        """Say why requests are not carried out now; they stay open."""
        folder = self._archive.folder / "requests"
        folder.mkdir(exist_ok=True)
        for identifier in identifiers:
            self._log("request-not-carried-out", {"request": identifier.hex(), "reason": reason})
            write_json(folder / f"{identifier.hex()}.json", {"reason": reason})

    # What is done

    def _replay(self, asked: Collection[StoredRequest], plans: Mapping[bytes, Plan]) -> None:
        """Make all rounds again from the first affected one, by one run for all requests."""
        names = {organization_id(name): name for name in self._settings.organization_names}
        identifiers = [one.request.id for one in asked]
        gone = self._leaving(asked, names)
        if self._settings.isolation and len(gone) == len(asked):
            # Their adapters are left away, and nothing need be made again.
            settings = leaving_away(self._archive, identifiers, gone)
        else:
            first = min(plans[one].first for one in identifiers)
            settings = replaying(self._archive, identifiers, first=first, gone=gone)
        self._begin(settings, identifiers, plans)

    def _unlearn_fast(
        self, asked: Collection[StoredRequest], plans: Mapping[bytes, Plan]
    ) -> RunArchive | None:
        """Unlearn by training, by one run for all requests, which goes on from the run as it is.

        Returns
        -------
        RunArchive or None
            The run, once it is finished; ``None`` where it could not be.
        """
        identifiers = [one.request.id for one in asked]
        names = {organization_id(name): name for name in self._settings.organization_names}
        unlearners = {names[one.request.organization] for one in asked}
        settings = forgetting(self._archive, identifiers, unlearners, self._leaving(asked, names))
        return self._begin(settings, identifiers, plans)

    def _leaving(self, asked: Collection[StoredRequest], names: Mapping[bytes, str]) -> list[str]:
        """Return whose requests are about all of their data."""
        return [
            names[one.request.organization]
            for one in asked
            if one.request.scope is UnlearningScope.ORGANIZATION
        ]

    def _begin(
        self,
        settings: RunSettings,
        identifiers: Collection[bytes],
        plans: Mapping[bytes, Plan],
    ) -> RunArchive | None:
        """Carry out the run that takes this one's place, and complete its requests.

        Returns
        -------
        RunArchive or None
            The run, once it is finished; ``None`` where it could not be.
        """
        left, needed = settings.attestor_names, self._chain.members.attestor_threshold()
        if len(left) < needed:
            # Nobody could vouch for it: nothing is done that could not be completed.
            self._refuse(identifiers, f"{len(left)} attestors are left, {needed} have to vouch")
            return None
        folder = settings.home_path / "runs" / settings.run_name
        folder.mkdir(parents=True, exist_ok=True)
        # Before the run's own entry: what it is for is known whenever it is found.
        write_json(folder / "plans.json", {i.hex(): plans[i].to_json() for i in identifiers})
        self._log("replaced-by", {"run": settings.run_name, "kept": settings.kept_rounds.after})
        if not self._carried_out(settings, identifiers):
            return None
        self._receipts(RunArchive(folder)).complete()
        return RunArchive(folder)

    def _finished_replay(self) -> bool:
        """Go on with a replay that was cut short, at whatever step; return whether it is done."""
        finished = self._archive.read_run().get("status") == "finished"
        if not finished:
            resumed = changed(self._settings, {"resume": True, "run-name": self._archive.name})
            finished = self._carried_out(resumed, self._settings.request_ids)
        if finished:
            self._receipts(self._archive).complete()
        return finished

    def _carried_out(self, settings: RunSettings, identifiers: Iterable[bytes]) -> bool:
        """Carry out a replay; where an organization will not or cannot take part, say so."""
        replaced = settings.kept_rounds.replaced or bytes(32)
        origin = run_of_task(settings.home_path, replaced)
        order = ReplayOrder.of(settings, settings_of(origin), origin.name)
        try:
            coordinate(settings, OrderedGrid(self._grid, order))
        except (UnlearningRefusedError, RosterError, ClosingError) as error:
            self._refuse(identifiers, f"{label_of(settings)} is refused: {error}")
            return False
        return True

    def _receipts(self, archive: RunArchive) -> Receipts:
        return Receipts(archive, self._chain, self._grid, self._log)
