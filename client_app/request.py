"""A coordinator's message: read strictly, and held against the public chain and our own record.

Loads neither torch nor the model: what does not hold is refused before it costs anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.chain_records import Phase
from blockchain.merkle import Leaf
from blockchain.model_update import receipt_digest
from blockchain.public_chain import PublicChain
from blockchain.typed_data import SignatureError, check_signer
from client_app.own_ledger import OwnLedger
from client_app.own_record import OwnRecord
from llm.factors import A_SUFFIX, Arrays, Float32Array, arrays_from_adapter
from strategies import protocol
from strategies.aggregation import AggregationRule
from strategies.protocol import ProtocolError, RoundReceipt
from strategies.reward_statement import RewardStatement, read_statements
from strategies.run_parts import agreed_rule, agreed_terms
from strategies.settings import RunSettings
from strategies.signed_update import TaskContext
from strategies.terms import terms_hash

#: No stacked adapter grows beyond this; a message that says so is refused before it costs memory.
MAX_ADAPTER_RANK = 65_536


class CoordinatorError(RuntimeError):
    """What the coordinator sent does not agree with the public chain or with our own record."""


@dataclass(frozen=True)
class Request:
    """A coordinator's message.

    Parameters
    ----------
    task : bytes
        The task's id, 32 bytes.
    run : str
        The run's name, which its terms hold.
    round : int
        The round.
    rank : int
        How many rows and columns of the factors this organization trains.
    adapter : dict of str to ndarray
        The whole global adapter.
    receipt : RoundReceipt or None
        What is owed for our last reply.
    rewards : tuple of RewardStatement
        What the sealed rounds say that we have earned.
    evaluated : bool
        Of a closing message: whether the adapter is to be evaluated.
    """

    task: bytes
    run: str
    round: int
    rank: int
    adapter: Arrays
    receipt: RoundReceipt | None
    rewards: tuple[RewardStatement, ...]
    evaluated: bool = True


def read_request(content: RecordDict, organization: str, settings: RunSettings) -> Request:
    """Read a message strictly: every record there, the adapter whole and of the hash it states.

    Raises
    ------
    ProtocolError
        If something is missing or of another kind or shape than was agreed.
    CoordinatorError
        If the adapter has another hash than the message says, or the rank is not the terms'.
    """
    header = content.config_records.get(protocol.HEADER)
    sent = content.array_records.get(protocol.ADAPTER)
    if header is None or sent is None:
        raise ProtocolError("a message without header or adapter")
    adapter = complete_adapter(sent, agreed_rule(settings))
    stated = protocol.digest(header, "adapter-hash")
    computed = hash_arrays(adapter)
    if computed != stated:
        raise CoordinatorError(
            f"the received adapter hashes to 0x{computed.hex()}, the message says 0x{stated.hex()}"
        )
    rank = protocol.integer(header, "rank")
    if rank != settings.rank_of(organization):
        raise CoordinatorError(
            f"the message asks for rank {rank}, the terms say {settings.rank_of(organization)}"
        )
    return Request(
        task=protocol.digest(header, "task"),
        run=protocol.text(header, "run"),
        round=protocol.integer(header, "round"),
        rank=rank,
        adapter=adapter,
        receipt=RoundReceipt.from_header(header),
        rewards=_rewards(header),
        evaluated=protocol.UNEVALUATED not in header,
    )


def check_terms(chain: PublicChain, task: bytes, run: str, settings: RunSettings) -> TaskContext:
    """Make sure that the task's terms on chain are those of the settings that we work by.

    Parameters
    ----------
    chain : PublicChain
        A connection that can read.
    task : bytes
        Id of the task, 32 bytes.
    run : str
        The run's name, which the terms hold.
    settings : RunSettings
        As the coordinator gave them to everybody.

    Returns
    -------
    TaskContext
        What our signature is to be bound to.

    Raises
    ------
    CoordinatorError
        If they are not.
    """
    on_chain = chain.task(task)
    ours = terms_hash(agreed_terms(settings, run))
    if on_chain.terms != ours:
        raise CoordinatorError(
            f"the task's terms on chain are 0x{on_chain.terms.hex()}, the settings, model and "
            f"validation set that we were given make 0x{ours.hex()}"
        )
    return TaskContext(task, on_chain.terms, chain.domain)


def check_parent(chain: PublicChain, request: Request) -> None:
    """Make sure that the round is open on chain, on the very adapter that was received.

    Raises
    ------
    CoordinatorError
        If it is not.
    """
    on_chain = chain.round(request.task, request.round)
    if on_chain.phase is not Phase.OPEN:
        raise CoordinatorError(
            f"round {request.round} is {on_chain.phase.name.lower()} on chain, expected open"
        )
    digest = hash_arrays(request.adapter)
    if on_chain.parent_adapter != digest:
        raise CoordinatorError(
            f"round {request.round} opened on adapter 0x{on_chain.parent_adapter.hex()}, "
            f"the coordinator sent 0x{digest.hex()}"
        )


def check_sealed(chain: PublicChain, request: Request) -> None:
    """Make sure that the last round is sealed on chain with the very adapter that was received.

    Raises
    ------
    CoordinatorError
        If it is not.
    """
    on_chain = chain.round(request.task, request.round)
    digest = hash_arrays(request.adapter)
    if not on_chain.phase.has_result or on_chain.adapter_hash != digest:
        raise CoordinatorError(
            f"round {request.round} is {on_chain.phase.name.lower()} on chain with adapter "
            f"0x{on_chain.adapter_hash.hex()}, the coordinator sent 0x{digest.hex()} as final"
        )


def check_receipt(
    chain: PublicChain,
    request: Request,
    context: TaskContext,
    record: OwnRecord,
    ledger: OwnLedger,
) -> None:
    """Hold the receipt for our last counted reply against the chain and our own record.

    What came of it goes into the private ledger, once.

    Raises
    ------
    CoordinatorError
        If it is for something that we did not sign, the coordinator did not sign it, or its leaf
        is not under the sealed root. In the last case it is kept: it is what a challenge needs.
    """
    receipt = request.receipt
    if receipt is None:
        return
    reply = record.reply_in(receipt.round)
    if reply is None or reply.digest != receipt.digest:
        raise CoordinatorError(
            f"the receipt for round {receipt.round} is not for an update that we signed"
        )
    coordinator = chain.task(request.task).coordinator
    word = receipt_digest(receipt.digest, context.domain)
    try:
        check_signer(word, receipt.signature, coordinator)
    except SignatureError as error:
        raise CoordinatorError(
            f"the receipt for round {receipt.round} is not the coordinator's: {error}"
        ) from error
    leaf = Leaf(digest=receipt.digest, index=receipt.index, verdict=receipt.verdict)
    included = chain.is_included(request.task, receipt.round, leaf, receipt.proof)
    if reply.receipt is None:
        ledger.note_receipt(receipt, request.task, coordinator, included=included)
    record.received(receipt, included=included)
    if not included:
        raise CoordinatorError(
            f"our update of round {receipt.round} is not under the root sealed on chain"
        )


def is_ignored(chain: PublicChain, request: Request, record: OwnRecord) -> bool:
    """Whether our last reply's round was sealed and we have no receipt for it.

    It may have come too late, or have been dropped; from here that looks the same.
    """
    reply = record.last_reply_before(request.round)
    if reply is None or reply.receipt is not None:
        return False
    return chain.round(request.task, reply.signed.update.round).phase.has_result


def _rewards(header: Mapping[str, Any]) -> tuple[RewardStatement, ...]:
    if protocol.REWARDS not in header:
        return ()
    try:
        return tuple(read_statements(protocol.data(header, protocol.REWARDS)))
    except ValueError as error:
        raise ProtocolError(f"{protocol.REWARDS}: {error}") from error


def complete_adapter(sent: ArrayRecord, rule: AggregationRule) -> Arrays:
    """Return the whole adapter: what was sent, and the rest from the seed.

    Raises
    ------
    ProtocolError
        If an array was not agreed, or is of another kind or shape than was.
    """
    arrays = dict(_initial_arrays(rule))
    for name, array in sent.items():
        if name not in arrays:
            raise ProtocolError(f"the adapter holds {name[:120]!r}, which was not agreed")
        arrays[name] = protocol.decode_array(array, _agreed_shape(name, array, arrays[name]))
    return arrays


@lru_cache(maxsize=1)
def _initial_arrays(rule: AggregationRule) -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return arrays_from_adapter(rule.adapter(rule.initial_state()))


def _agreed_shape(name: str, sent: Array, initial: Float32Array) -> tuple[int, ...]:
    """Return the shape an array of the adapter may have: under stacking rules its rank grows."""
    rank_axis = 0 if name.endswith(A_SUFFIX) else 1
    shape = list(initial.shape)
    if len(sent.shape) == 2 and 1 <= sent.shape[rank_axis] <= MAX_ADAPTER_RANK:
        shape[rank_axis] = int(sent.shape[rank_axis])
    return tuple(shape)
