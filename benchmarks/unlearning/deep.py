"""Measures that take longer: relearning, coarser weights, and what further rounds bring back."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from benchmarks.unlearning.adapter_store import Made
from benchmarks.unlearning.cells import Cell
from benchmarks.unlearning.federation import Federation
from benchmarks.unlearning.models import Models
from benchmarks.unlearning.questions import Questions
from benchmarks.unlearning.requests import Gone, all_gone
from llm.adapters import LoraAdapter
from strategies.run_parts import training_settings
from unlearning.verification import (
    measure,
    memory_by_round,
    quantized_evidence,
    relearning_attack,
)

#: Share of the records to forget that are taught again, at least one.
_LESSONS: Final = 5
#: Rounds of ordinary training after the last one, to see what comes back.
FURTHER: Final = 3
_QUANTIZED: Final = ("forget/loss", "membership/loss", "membership/min_k")


def deep_measures(models: Models, cell: Cell, made: Made, questions: Questions) -> dict[str, Any]:
    """Attack a model itself.

    Parameters
    ----------
    models : Models
        Where the retrained model comes from.
    cell : Cell
        Which.
    made : Made
        Its model.
    questions : Questions
        What it is asked about.

    Returns
    -------
    dict
        ``quantized``, ``resurfacing`` of a fast one, ``relearning`` of all but the retrained.
    """
    found: dict[str, Any] = {"quantized": _quantized(models.federation, made, questions)}
    if made.states:
        gone = all_gone(models.requests(cell))
        found["resurfacing"] = _resurfacing(models.federation, made, gone, questions)
    if cell.model != "retrained" and len(questions.forget) > 1:
        found["relearning"] = _relearning(models, cell, made, questions)
    return found


def _quantized(federation: Federation, made: Made, questions: Questions) -> dict[str, Any]:
    by_form = quantized_evidence(
        federation.base,
        federation.adapter(made.state),
        forget=questions.forget,
        hold_out=questions.hold_out,
        max_tokens=federation.setting.run.max_tokens,
    )
    return {
        f"{scheme} {form}": {
            name: {"value": result.value, "n": result.n}
            for name, result in measure(evidence, _QUANTIZED).items()
        }
        for (scheme, form), evidence in by_form.items()
    }


def _resurfacing(
    federation: Federation, made: Made, gone: Gone, questions: Questions
) -> list[dict[str, Any]]:
    def adapters() -> Iterator[tuple[int, LoraAdapter]]:
        state, last = made.state, max(made.states)
        for number, of_round in sorted(made.states.items()):
            yield number, federation.adapter(of_round)
        for number in range(last + 1, last + FURTHER + 1):
            state = federation.round(number, state, gone).state
            yield number, federation.adapter(state)

    memories = memory_by_round(
        federation.base,
        adapters(),
        questions.forget,
        questions.hold_out,
        max_tokens=federation.setting.run.max_tokens,
    )
    return [
        {"round": one.round, "loss": one.loss.value, "membership": one.membership.value}
        for one in memories
    ]


def _relearning(models: Models, cell: Cell, made: Made, questions: Questions) -> dict[str, Any]:
    federation = models.federation
    retrained = models.of(replace(cell, model="retrained", variant=None))
    lessons = max(1, len(questions.forget) // _LESSONS)
    curves = relearning_attack(
        federation.base,
        federation.adapter(made.state),
        federation.adapter(retrained.state),
        questions.forget[:lessons],
        questions.forget[lessons:],
        settings=training_settings(federation.setting.run, 1),
        seed=cell.seed,
    )
    return {
        "lessons": lessons,
        "n": len(questions.forget) - lessons,
        "steps": list(curves.steps),
        "unlearned": list(curves.unlearned),
        "retrained": list(curves.retrained),
        "advantage": list(curves.advantage),
    }
