"""An organization's own side of a request to forget: put into its ledger, then on the chain.

One block of the private ledger holds both the request and the tombstone, so that what is to be
forgotten is barred from the next draw on, whatever becomes of the request. Only then is the chain
asked: a kill in between loses nothing, for `bring` brings what the chain does not know yet.
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from eth_account.signers.local import LocalAccount

from blockchain.errors import ChainError
from blockchain.private import data_sets
from blockchain.private.drafts import Draft
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import UnlearningRequest
from blockchain.public_chain import PublicChain
from blockchain.typed_data import sign_digest
from blockchain.unlearning_messages import RequestState, UnlearningScope
from client_app.own_request import (
    SCOPES,
    OwnRequest,
    Standing,
    own_request,
    signed_request,
    written_requests,
)
from strategies.home import organization_folder

#: So many are named in an error.
_NAMED: Final = 3


class RequestError(RuntimeError):
    """A request to forget was refused, or not brought; the message says why."""


class UnknownRecordsError(RequestError):
    """What was named are no records that a request could be about."""


def ask(
    ledger: Ledger,
    chain: PublicChain,
    account: LocalAccount,
    organization: str,
    task: bytes,
    *,
    scope: UnlearningScope,
    record_ids: Sequence[str],
    method: Literal["exact", "fast"],
    seconds: int,
    now: int,
    beside: bytes | None = None,
) -> OwnRequest:
    """Ask that a task's model forget records, or all of the organization's data.

    They are barred from being trained on for good, also where the chain does not take the request.
    A record whose content changed, or that left the training set and came back, has several leaves:
    the request is about all of them.

    Parameters
    ----------
    ledger : Ledger
        The organization's, by a member who may write requests and tombstones.
    chain : PublicChain
        With an account that can pay.
    account : LocalAccount
        The organization's signing key.
    organization : str
        Its name.
    task : bytes
        Id of the task, 32 bytes.
    scope : UnlearningScope
        Whether records or all of its data.
    record_ids : sequence of str
        The records; none where all of its data is meant.
    method : {"exact", "fast"}
        How it is to be forgotten.
    seconds, now : int
        Time to fulfil it, and the chain's time, seconds since the epoch.
    beside : bytes, optional
        Id of a request that may be about the same records, 32 bytes: to have them forgotten in
        another way after it.

    Returns
    -------
    OwnRequest
        As it stands on the chain.

    Raises
    ------
    UnknownRecordsError
        No record is named, one twice, or one that the training set never held.
    RequestError
        It was forgotten already, or the chain did not take the request, which `bring` brings then.
    ChainError
        The chain cannot be asked, or has no such task; nothing was written.
    """
    if seconds < 1:
        raise RequestError(f"a deadline {seconds} seconds from now: expected one that lies ahead")
    _check_named(scope, record_ids)
    since_round = chain.task(task).last_round + 1
    if scope is UnlearningScope.ORGANIZATION:
        _check_no_withdrawal(ledger, chain, organization, task, now)
    before = ledger.history
    seen = (len(before.data_sets), len(before.removed))
    positions, standing = _subject(
        ledger, chain, organization, task, scope, record_ids, now, beside
    )
    salt, deadline = secrets.token_bytes(32), now + seconds
    request = signed_request(organization, task, salt, scope, positions, deadline)
    payload = UnlearningRequest(
        request=request.id.hex(),
        scope=SCOPES[scope],
        method=method,
        positions=positions,
        salt=salt.hex(),
        deadline=deadline,
    )
    burial = data_sets.burial(
        ledger, standing, request=request.id, task=task, since_round=since_round
    )
    with ledger.decided() as writer:
        state = writer.history
        if (len(state.data_sets), len(state.removed)) != seen:
            raise RequestError("another process changed the training set meanwhile: ask again")
        record, *_ = writer.append(Draft(payload=payload), *burial)
    count = len(record_ids) or len(standing)
    own = OwnRequest(request, method, positions, salt, record, count, stored=None)
    return _brought(chain, account, organization, own)


def bring(
    ledger: Ledger,
    chain: PublicChain,
    account: LocalAccount,
    organization: str,
    tasks: Iterable[bytes],
    now: int,
) -> list[OwnRequest]:
    """Bring every request of the ledger that the chain does not know, before its deadline.

    One whose deadline has passed is left, and stands as expired (`OwnRequest.standing`).

    Parameters
    ----------
    ledger, chain, account, organization
        As in `ask`.
    tasks : iterable of bytes
        Ids of the tasks that they may be about, 32 bytes each: see `known_tasks`.
    now : int
        The chain's time, seconds since the epoch.

    Returns
    -------
    list of OwnRequest
        Those that were brought, oldest first.

    Raises
    ------
    RequestError
        The chain did not take one, or one is about none of the tasks.
    """
    return [
        _brought(chain, account, organization, own)
        for own in own_requests(ledger, chain, organization, tasks)
        if own.standing(now) is Standing.WAITING
    ]


def own_requests(
    ledger: Ledger, chain: PublicChain, organization: str, tasks: Iterable[bytes]
) -> list[OwnRequest]:
    """Return the organization's requests, oldest first; it is logged as a read of them.

    Raises
    ------
    RequestError
        One is about none of the tasks.
    """
    purpose, known = "to see what became of requests to forget", list(tasks)
    barred = Counter[str]()
    for tombstone, details in data_sets.tombstones(ledger, purpose):
        barred[details.request] += len(tombstone.positions)
    found: list[OwnRequest] = []
    for record, payload, request in written_requests(ledger, organization, known, purpose):
        if request is None:
            raise RequestError(
                f"request 0x{payload.request} in record {record} of the ledger of {organization} "
                f"is about none of the {len(known)} tasks that are known here"
            )
        # One that was asked for again takes nothing out: an earlier request has.
        count = barred[payload.request] or len(payload.positions)
        found.append(own_request(record, payload, request, count, chain))
    return found


def known_tasks(home: Path, organization: str) -> list[bytes]:
    """Return the ids of the tasks that an organization keeps a record of, 32 bytes each."""
    folders = (organization_folder(home, organization) / "tasks").glob("[0-9a-f]" * 64)
    return [bytes.fromhex(folder.name) for folder in sorted(folders)]


def _check_named(scope: UnlearningScope, record_ids: Sequence[str]) -> None:
    if bool(record_ids) != (scope is UnlearningScope.RECORDS):
        named = "records are named, and all data" if record_ids else "no record is named"
        raise UnknownRecordsError(f"{named} to be forgotten")
    twice = sorted(name for name, times in Counter(record_ids).items() if times > 1)
    if twice:
        raise UnknownRecordsError(f"named twice: {_listed(twice)}")


def _check_no_withdrawal(
    ledger: Ledger, chain: PublicChain, organization: str, task: bytes, now: int
) -> None:
    written = written_requests(
        ledger, organization, [task], "to see whether all is forgotten already"
    )
    for record, payload, request in written:
        if request is None or request.scope is not UnlearningScope.ORGANIZATION:
            continue
        own = own_request(record, payload, request, 0, chain)
        if own.standing(now) not in {Standing.EXPIRED, Standing.REJECTED, Standing.CANCELLED}:
            raise RequestError(
                f"all data of {organization} is to be forgotten already, by request "
                f"0x{own.id.hex()}: {own.standing_in_words(now)}"
            )


def _subject(
    ledger: Ledger,
    chain: PublicChain,
    organization: str,
    task: bytes,
    scope: UnlearningScope,
    record_ids: Sequence[str],
    now: int,
    beside: bytes | None,
) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the leaves that are signed for, and by id those to be taken out of the data set."""
    entries = data_sets.open_entries(ledger, "to ask for records to be forgotten")
    history = ledger.history
    standing = {one.id: one.position for one in entries if one.position not in history.removed}
    if not history.data_sets:
        raise RequestError(f"{organization} has not committed to a training set yet")
    if scope is UnlearningScope.ORGANIZATION:
        return (), standing
    wanted = set(record_ids)
    barring = data_sets.barring(ledger, wanted)
    unknown = sorted(wanted - standing.keys() - barring.keys())
    if unknown:
        raise UnknownRecordsError(f"no record {_listed(unknown)} of the training set")
    positions = tuple(sorted(one.position for one in entries if one.id in wanted))
    asked = _asked_about(ledger, chain, organization, task, positions, now)
    named = {one.id: asked[one.position] for one in entries if one.position in asked}
    # What opened the entries of those that were forgotten is erased: their ids alone are barred.
    named |= {name: one for name, one in barring.items() if name not in {e.id for e in entries}}
    named = {name: one for name, one in named.items() if one != beside}
    if named:
        by = ", ".join(sorted({f"0x{one.hex()}" for one in named.values()})[:_NAMED])
        raise RequestError(f"forgotten already: {_listed(sorted(named))}, by request {by}")
    return positions, {name: standing[name] for name in wanted if name in standing}


def _asked_about(
    ledger: Ledger,
    chain: PublicChain,
    organization: str,
    task: bytes,
    positions: Sequence[int],
    now: int,
) -> dict[int, bytes]:
    """Return which leaves a request about the task has, that did not come to nothing, and which."""
    found: dict[int, bytes] = {}
    purpose = "to see what is to be forgotten already"
    for _, payload, request in written_requests(ledger, organization, [task], purpose):
        whole = payload.scope == "organization"
        covered = [one for one in positions if whole or one in payload.positions]
        # Another task's model holds them all the same.
        if covered and request is not None and not _came_to_nothing(chain, payload, now):
            found |= dict.fromkeys(covered, request.id)
    return found


def _came_to_nothing(chain: PublicChain, payload: UnlearningRequest, now: int) -> bool:
    """Whether a request has barred records and will not have them forgotten any more."""
    stored = chain.unlearning.request_of(bytes.fromhex(payload.request))
    if stored is not None:
        return stored.state in {RequestState.REJECTED, RequestState.CANCELLED}
    return payload.deadline <= now


def _brought(
    chain: PublicChain, account: LocalAccount, organization: str, own: OwnRequest
) -> OwnRequest:
    signature = sign_digest(own.request.digest(chain.unlearning_domain), account)
    try:
        chain.unlearning.ask(own.request, signature)
    except ChainError as error:
        raise RequestError(
            f"request 0x{own.id.hex()} of {organization} stands in its ledger, with its records "
            f"barred, and was not brought to the chain: {error}"
        ) from error
    return replace(own, stored=chain.unlearning.request_of(own.id))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
