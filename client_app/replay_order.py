"""An order to unlearn, held against the public chain before anything is done about it."""

from collections.abc import Collection
from typing import Final

from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.unlearning_messages import RequestState, UnlearningScope
from client_app.own_record import OwnRecord
from client_app.own_requests import known_tasks
from client_app.request import CoordinatorError
from strategies.home import organization_folder
from strategies.replay_order import ReplayOrder
from strategies.run_parts import agreed_terms
from strategies.settings import RunSettings
from strategies.terms import agreed_config, terms_hash

#: Settings in which a run may differ from the one whose rounds it replaces: the rest was agreed.
_MAY_DIFFER: Final = {
    "lineage",
    "requests",
    "unlearners",
    "leavers",
    "rounds",
    "organizations",
    "attestors",
    "ranks",
    "min-organizations",
}


def check_order(
    chain: PublicChain, order: ReplayOrder, own: RunSettings, organization: str
) -> None:
    """Make sure that an order replaces an agreed run, for requests that stand on the chain.

    Parameters
    ----------
    chain : PublicChain
        A connection that can read.
    order : ReplayOrder
        What the coordinator sent.
    own : RunSettings
        Where and how the organization works.
    organization : str
        Its name.

    Raises
    ------
    CoordinatorError
        If the replaced run's terms on chain are others, a setting differs that may not, an
        organization is left out that did not ask for it, or a request does not stand or is about
        another run.
    """
    settings, origin = order.settings_at(own), order.origin_at(own)
    kept = settings.kept_rounds
    if kept.replaced is None or order.settings == order.origin:
        # Nothing is made again: a plan is asked for, or a receipt brought.
        return
    on_chain = chain.task(kept.replaced).terms
    ours = terms_hash(agreed_terms(origin, order.origin_run))
    if on_chain != ours:
        raise CoordinatorError(
            f"the run whose rounds are to be made again has terms 0x{on_chain.hex()} on chain, the "
            f"order's make 0x{ours.hex()}"
        )
    if kept.spans[:-1] != origin.kept_rounds.spans:
        raise CoordinatorError(
            f"the order keeps {kept}, expected what the replaced run keeps, and of that run"
        )
    before, now = agreed_config(origin), agreed_config(settings)
    odd = sorted(key for key in now if now[key] != before[key] and key not in _MAY_DIFFER)
    if odd:
        raise CoordinatorError(
            f"{odd[0]} was {before[odd[0]]!r}, the order says {now[odd[0]]!r}: expected the same"
        )
    _check_rounds(chain.task(kept.replaced).last_round, settings, origin)
    _check_requests(chain, settings, origin, _family(settings, organization))


def as_it_worked(settings: RunSettings, organization: str) -> RunSettings:
    """Return settings with what was the organization's own in the run whose rounds are replaced.

    Whether its agent decides, at which price and on what budget: made again, a round is decided as
    it was.
    """
    replaced = settings.kept_rounds.replaced
    if replaced is None:
        return settings
    folder = organization_folder(settings.home_path, organization)
    kept = OwnRecord(folder, replaced).own_settings()
    return RunSettings.from_run_config({**settings.to_run_config(), **kept})


def _check_rounds(last_round: int, settings: RunSettings, origin: RunSettings) -> None:
    """Make sure that no more rounds are left out, or added, than unlearning takes.

    Parameters
    ----------
    last_round : int
        The last round of the task that is gone on from, by its own count.
    settings, origin : RunSettings
        Those of the run, and of the one whose rounds it replaces.
    """
    fast, kept = settings.first_rounds, settings.kept_rounds
    if settings.rounds != origin.rounds + fast.last:
        raise CoordinatorError(
            f"{settings.rounds} rounds, expected {origin.rounds + fast.last}: the replaced run's "
            f"{origin.rounds}, and {fast.last} that unlearn"
        )
    if not (fast.unlearners or settings.leavers):
        return
    came_to = origin.kept_rounds.after + last_round
    # One more round may only have sealed what the last one earned.
    if kept.after < min(origin.rounds, came_to - 1):
        raise CoordinatorError(
            f"the order keeps {kept.after} rounds, the run to go on from came to {came_to}: "
            "expected it to keep all of them"
        )


def _family(settings: RunSettings, organization: str) -> set[bytes]:
    """Return the tasks that we know to go on from the same first one as a run."""
    spans = settings.kept_rounds.spans
    found = {span.task for span in spans}
    folder = organization_folder(settings.home_path, organization)
    for task in known_tasks(settings.home_path, organization):
        kept = OwnRecord(folder, task).kept_rounds().spans
        if kept and kept[0].task == spans[0].task:
            found.add(task)
    return found


def _check_requests(
    chain: PublicChain, settings: RunSettings, origin: RunSettings, family: Collection[bytes]
) -> None:
    withdrawn, asked = set[bytes](), set[bytes]()
    for identifier in settings.request_ids:
        stored = chain.unlearning.request_of(identifier)
        if stored is None or stored.state not in (RequestState.OPEN, RequestState.COMPLETED):
            state = "unknown" if stored is None else stored.state.name.lower()
            raise CoordinatorError(f"the request 0x{identifier.hex()} is {state}, expected open")
        if stored.request.task not in family:
            raise CoordinatorError(
                f"the request 0x{identifier.hex()} is about the task "
                f"0x{stored.request.task.hex()[:16]}…, none of the runs that the order replaces"
            )
        asked.add(stored.request.organization)
        if stored.request.scope is UnlearningScope.ORGANIZATION:
            withdrawn.add(stored.request.organization)
    now = set(settings.organization_names)
    before = set(origin.organization_names) - set(origin.leaver_names)
    for names, those, said in (
        (now - before, set(), "took no part in the run to be made again"),
        (before - now, withdrawn, "is left out, and did not ask to be forgotten"),
        (settings.leaver_names, withdrawn, "is left away, and did not ask to be forgotten"),
        (settings.first_rounds.unlearners, asked, "is to unlearn, and asked for nothing"),
    ):
        _require_among(names, those, said)
    # By training, whoever leaves is there for one last round.
    for name in sorted(now - set(settings.leaver_names)):
        if organization_id(name) in withdrawn:
            raise CoordinatorError(f"{name} takes part, and asked to be forgotten")


def _require_among(names: Collection[str], organizations: Collection[bytes], said: str) -> None:
    """Refuse the first organization that is none of some; what is said follows its name."""
    for name in sorted(names):
        if organization_id(name) not in organizations:
            raise CoordinatorError(f"{name} {said}")
