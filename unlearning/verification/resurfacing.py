"""Resurfacing: what was forgotten may come back as federated training goes on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Record
from unlearning.verification.evidence import gather_evidence
from unlearning.verification.metric import METRICS, MetricResult
from unlearning.verification.token_statistics import TokenStatistics


@dataclass(frozen=True)
class RoundMemory:
    """What the model of one round remembers of the forget set.

    Parameters
    ----------
    round : int
        The round.
    loss : MetricResult
        Mean loss a completion token, nats.
    membership : MetricResult
        Area under the ROC curve of the attack, forget set against hold-out set.
    """

    round: int
    loss: MetricResult
    membership: MetricResult


def memory_by_round(
    base: BaseModel,
    adapters: Iterable[tuple[int, LoraAdapter]],
    forget: Sequence[Record],
    hold_out: Sequence[Record],
    *,
    attack: str = "loss",
    reference: Mapping[str, TokenStatistics] | None = None,
    max_tokens: int = 512,
) -> tuple[RoundMemory, ...]:
    """Follow the forget set through the rounds after unlearning.

    A loss that falls says little by itself, since training lowers that of similar records as well:
    the area compares with the hold-out set of the same round.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    adapters : iterable of (int, LoraAdapter)
        Round and global adapter, in order; read one at a time.
    forget, hold_out : sequence of Record
        See :class:`~unlearning.verification.evidence.Evidence`.
    attack : str, optional
        Which of :data:`~unlearning.verification.membership.ATTACKS`.
    reference : mapping of str to TokenStatistics, optional
        The records under the base, for the reference attack.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.

    Returns
    -------
    tuple of RoundMemory
        In the order given.

    Raises
    ------
    MissingEvidenceError
        If a set is empty, or the attack needs what is not there.
    """
    area, loss = METRICS[f"membership/{attack}"], METRICS["forget/loss"]
    memories = []
    for round_number, adapter in adapters:
        evidence = gather_evidence(
            base,
            adapter,
            forget=forget,
            hold_out=hold_out,
            reference=reference,
            max_tokens=max_tokens,
        )
        memories.append(RoundMemory(round_number, loss(evidence), area(evidence)))
    return tuple(memories)
