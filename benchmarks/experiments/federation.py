"""Carries out an experiment: all rounds of all its federations, and what they come to."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.experiments.before import Before
from benchmarks.experiments.experiment import Experiment
from benchmarks.experiments.holders import Holders, holders
from benchmarks.experiments.hostile import flipped, hostile_names, spoiled
from blockchain.canonical import hash_arrays
from llm.base_model import BaseModel
from llm.draw import draw
from llm.evaluation import Evaluation, EvaluationError
from llm.factors import Arrays, arrays_from_adapter
from llm.records import Record
from llm.training import TrainingError
from strategies.aggregation import (
    Aggregate,
    AggregationState,
    Contribution,
)
from strategies.run_parts import adapter_at_scale, agreed_rule
from unlearning.verification import auc


def carry_out(
    experiment: Experiment, base: BaseModel, cache: Path, before: Before
) -> dict[str, Any]:
    """Run an experiment.

    Parameters
    ----------
    experiment : Experiment
        What to do.
    base : BaseModel
        The run's base model.
    cache : Path
        Where model and data lie.
    before : Before
        What the same process computed before.

    Returns
    -------
    dict
        ``rounds``, each with the accuracy and loss of every organization's test rows where it was
        evaluated, and how often the commonest answer is right there; what was rejected, and bytes;
        ``adapters``, the last ones' hashes; ``tokens`` trained; ``seconds``. Of those that train
        alone ``others_accuracy``, too, the last adapters' on the others' test rows.
    """
    started = time.perf_counter()
    held = holders(experiment, cache)
    federations = [
        _Federation(experiment, base, held, who, before)
        for who in held.federations(experiment.together)
    ]
    rounds = range(experiment.run(experiment.names).rounds + 1)
    return {
        "rounds": [
            {"round": number, **_joined([each.round(number) for each in federations])}
            for number in rounds
        ],
        "adapters": [hash_arrays(each.adapter).hex() for each in federations],
        "hostile": list(hostile_names(experiment.attack, federations[0].run.seed)),
        "tokens": sum(each.tokens for each in federations),
        **({"membership": _attacked(federations)} if experiment.membership else {}),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _attacked(federations: Sequence["_Federation"]) -> dict[str, Any]:
    """Tell trained rows from as many test rows by their loss, alone and beside the base's.

    Yeom et al., arXiv 1709.01604; the reference attack of Carlini et al., arXiv 2012.07805.
    """
    members: list[float] = []
    others: list[float] = []
    easier = ([], [])
    for each in federations:
        for place, (losses, sets) in enumerate(
            ((members, [each.trained_rows]), (others, each.test_sets))
        ):
            for rows in sets:
                worn, bare = (each.losses(rows, wears=wears) for wears in (True, False))
                losses += [-loss for loss in worn]
                easier[place].extend(b - w for b, w in zip(bare, worn, strict=True))
    found = {"loss": auc(members, others), "reference": auc(*easier)}
    return {
        name: {"auc": one.value, "standard_error": one.standard_error, "rows": len(members)}
        for name, one in found.items()
    }


def _joined(done: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put together what a round came to in federations that know nothing of one another."""
    joined: dict[str, Any] = {"upload_bytes": sum(one["upload_bytes"] for one in done)}
    joined["download_bytes"] = sum(one["download_bytes"] for one in done)
    rejected = {name: norm for one in done for name, norm in one["rejected"].items()}
    if rejected:
        joined["rejected"] = rejected
    if failed := [name for one in done for name in one["failed"]]:
        joined["failed"] = failed
    if any(one["unchanged"] for one in done):
        joined["unchanged"] = True
    errors = [one["error"] for one in done if one["error"] is not None]
    if errors:
        joined["error"] = fmean(errors)
    tests = {name: values for one in done for name, values in one["tests"].items()}
    if tests:
        joined["tests"] = tests
        # Of texts there is none.
        accuracies = [values["accuracy"] for values in tests.values()]
        joined["accuracy"] = None if None in accuracies else fmean(accuracies)
        losses = [values["loss"] for values in tests.values()]
        joined["loss"] = None if None in losses else fmean(losses)
    others = [values["accuracy"] for one in done for values in one["others"].values()]
    if others:
        joined["others_accuracy"] = None if None in others else fmean(others)
    return joined


class _Federation:
    """Those who train one adapter, and the coordinator who aggregates it."""

    def __init__(
        self,
        experiment: Experiment,
        base: BaseModel,
        held: Holders,
        who: Mapping[str, Sequence[Record]],
        before: Before,
    ) -> None:
        self._experiment, self._base, self._before, self._who = experiment, base, before, who
        run = experiment.run(list(who))
        if experiment.together == "pooled":
            # As many records a round as all of them draw.
            per_round = run.records_per_round * len(held.train)
            run = run.model_copy(update={"records_per_round": per_round})
        self.run, self.rule = run, agreed_rule(run)
        self._hostile = hostile_names(experiment.attack, run.seed)
        alone = experiment.together == "alone"
        self._tests = {name: rows for name, rows in held.test.items() if not alone or name in who}
        self._others = {name: rows for name, rows in held.test.items() if name not in self._tests}
        self._state: AggregationState = self.rule.initial_state()
        self.tokens = 0

    @property
    def adapter(self) -> Arrays:
        """The global adapter, under PEFT's names."""
        return arrays_from_adapter(self.rule.adapter(self._state))

    def round(self, number: int) -> dict[str, Any]:
        """Make a round, and evaluate what comes of it; round 0 is the base."""
        done: dict[str, Any] = {
            "upload_bytes": 0,
            "download_bytes": 0,
            "rejected": {},
            "error": None,
            "failed": [],
            "unchanged": False,
            "tests": {},
            "others": {},
        }
        if number:
            done.update(self._trained(number))
        if self._experiment.every_round or number == self.run.rounds:
            done["tests"] = self._evaluated(self._tests, wears=number > 0)
        if number == self.run.rounds:
            done["others"] = self._evaluated(self._others, wears=True)
        return done

    @property
    def trained_rows(self) -> list[Record]:
        """Rows that are trained on: a draw of as many as there are test rows."""
        rows = [record for records in self._who.values() for record in records]
        few = sum(map(len, self.test_sets))
        return list(draw(rows, few, seed=self.run.seed, round=0, organization="members"))

    @property
    def test_sets(self) -> list[Sequence[Record]]:
        """All rows that the adapter is evaluated on, as they are evaluated."""
        return list(self._tests.values())

    def losses(self, rows: Sequence[Record], *, wears: bool) -> list[float]:
        """Return each row's loss, nats a token, with the adapter or without."""
        scores = self._measured(rows, wears=wears).scores
        return [scores[record.id].loss / scores[record.id].tokens for record in rows]

    def _measured(self, rows: Sequence[Record], *, wears: bool) -> Evaluation:
        adapter = adapter_at_scale(self.adapter, self.run) if wears else None
        return self._before.evaluated(self._base, rows, adapter, max_tokens=self.run.max_tokens)

    def _trained(self, number: int) -> dict[str, Any]:
        received = self.adapter
        trained, failed = [], []
        for name in self._who:
            try:
                trained.append(self._contribution(received, number, name))
            except TrainingError:
                # Of an adapter that somebody has ruined no loss is a number.
                failed.append(name)
        sent = spoiled(
            trained,
            self._experiment.attack,
            self._hostile,
            in_place=not self.rule.plan(number, self.run.rank).on_top,
            seed=self.run.seed,
            number=number,
        )
        norms = {one.organization: self.rule.update_norm(self._state, number, one) for one in sent}
        bound = self.run.norm_bound
        rejected = {name: norm for name, norm in norms.items() if bound and not norm <= bound}
        accepted = [one for one in sent if one.organization not in rejected]
        aggregate = self._aggregate(number, accepted)
        if aggregate:
            self._state = aggregate.state
        travels = self._experiment.together == "federated"
        return {
            "failed": failed,
            "unchanged": aggregate is None,
            "upload_bytes": travels * sum(_bytes(one.arrays) for one in sent),
            "download_bytes": travels * len(self._who) * _bytes(received),
            "rejected": rejected,
            "error": aggregate.error.total if aggregate and aggregate.error else None,
        }

    def _aggregate(self, number: int, accepted: Sequence[Contribution]) -> Aggregate | None:
        """Aggregate; where no adapter comes of it nothing changes, as in a run."""
        try:
            aggregate = self.rule.aggregate(self._state, number, accepted)
            self.rule.adapter(aggregate.state)
        except ValueError:
            return None
        return aggregate

    def _contribution(self, received: Arrays, number: int, name: str) -> Contribution:
        records: Sequence[Record] = draw(
            self._who[name],
            self.run.records_per_round,
            seed=self.run.seed,
            round=number,
            organization=name,
        )
        attack = self._experiment.attack
        if attack and attack.kind == "flipped-labels" and name in self._hostile:
            records = flipped(records)
        result = self._before.trained(
            self._base, self.rule, received, number, name, records, self.run
        )
        self.tokens += result.tokens
        return Contribution(name, result.records, result.arrays)

    def _evaluated(
        self, tests: Mapping[str, Sequence[Record]], *, wears: bool
    ) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name, rows in tests.items():
            commonest = Counter(row.completion for row in rows if row.choices).most_common(1)
            found[name] = {"rows": len(rows)}
            if commonest:
                found[name]["commonest"] = commonest[0][1] / len(rows)
            try:
                measured = self._measured(rows, wears=wears)
            except EvaluationError:
                # The model's answers are no numbers: it answers nothing right.
                found[name] |= {"accuracy": 0.0, "loss": None}
                continue
            found[name] |= {"accuracy": measured.accuracy, "loss": measured.loss}
        return found


def _bytes(arrays: Mapping[str, Any]) -> int:
    return sum(array.nbytes for array in arrays.values())
