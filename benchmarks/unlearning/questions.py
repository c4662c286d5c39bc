"""What a cell's model is asked about: the same records for every model of a case."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.unlearning.holdings import Holding
from benchmarks.unlearning.requests import Request, all_gone
from benchmarks.unlearning.setting import Setting
from llm.records import Record
from unlearning.verification import Canary


@dataclass(frozen=True)
class Questions:
    """Records to ask about.

    Parameters
    ----------
    forget : tuple of Record
        What was to be forgotten, canaries left out: they are texts of another kind.
    retain : tuple of Record
        What was learned and is kept: of those who ask, or of the others where one leaves.
    hold_out : tuple of Record
        Test rows of those who ask.
    others : tuple of Record
        Test rows of everybody else.
    canaries : tuple of Canary
        What was to be forgotten.
    """

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]
    hold_out: tuple[Record, ...]
    others: tuple[Record, ...]
    canaries: tuple[Canary, ...]


def questions_of(
    requests: Sequence[Request], held: Mapping[str, Holding], setting: Setting
) -> Questions:
    """Return what the models of a case are asked about.

    Parameters
    ----------
    requests : sequence of Request
        The case's.
    held : mapping of str to Holding
        By organization.
    setting : Setting
        How many rows of each kind.
    """
    asking = sorted({name for request in requests for name in request.forgotten})
    others = [name for name in held if name not in asking]
    gone = all_gone(requests)
    forgotten = [one for request in requests for one in request.forgotten.values()]
    if gone.organizations:
        share = -(-setting.retain_rows // max(1, len(others)))
        retain = _each(held[name].some(held[name].records, share) for name in others)
    else:
        retain = _each(
            held[name].some(
                [one for one in held[name].records if one.id not in gone.ids], setting.retain_rows
            )
            for name in asking
        )
    return Questions(
        forget=_each(one.records for one in forgotten),
        retain=retain,
        hold_out=_each(held[n].some(held[n].test, setting.hold_out_rows) for n in asking),
        others=_each(held[n].some(held[n].test, setting.test_rows) for n in others),
        canaries=tuple(canary for one in forgotten for canary in one.canaries),
    )


def _each(parts: Iterable[Sequence[Record]]) -> tuple[Record, ...]:
    return tuple(record for part in parts for record in part)
