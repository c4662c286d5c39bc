"""Scores of updates that were really trained: good data earns, noise and wrong labels do not."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.embedded_data import embedded_organization
from llm.factors import arrays_from_adapter
from llm.records import Record
from llm.training import TrainedPart, train
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.contributions import ScoredRound, ScoreLimits, first_order, leave_one_out
from strategies.public_validation import public_validation_set
from strategies.run_parts import (
    adapter_at_scale,
    aggregation_rule,
    base_model_settings,
    training_settings,
)
from strategies.settings import RunSettings
from strategies.validation_loss import loss_gradient, validation_loss
from tests.real_model import application_cache, real_base
from tests.tiny_model import build_tiny_model, labelled_records

#: The share of wrong labels in the data of each of the tiny federation's organizations.
WRONG = {"careful": 0.0, "exact": 0.0, "hasty": 0.2, "sloppy": 0.45, "tossing": 0.5, "wrong": 0.9}


@dataclass
class Federation:
    """Organizations that train a model together, a round at a time."""

    base: BaseModel
    settings: RunSettings
    rule: AggregationRule
    records: dict[str, tuple[Record, ...]]
    validation: tuple[Record, ...]

    def round(self, number: int, state: AggregationState) -> ScoredRound:
        """Train everybody's update from the adapter of a state."""
        adapter = adapter_at_scale(arrays_from_adapter(self.rule.adapter(state)), self.settings)
        plan = self.rule.plan(number, self.settings.rank)
        part = TrainedPart(plan.train_a, plan.train_b, plan.rank)
        sent = []
        for name, records in self.records.items():
            trained = train(
                self.base, records, adapter, part, training_settings(self.settings, 1), seed=number
            )
            sent.append(Contribution(name, trained.records, trained.arrays))
        return ScoredRound(self.rule, state, number, sent)

    def leave_one_out(self, scored: ScoredRound) -> dict[str, int]:
        with validation_loss(self.base, self.validation, self.settings) as loss:
            return leave_one_out(scored, loss, ScoreLimits.of(self.settings))

    def first_order(self, scored: ScoredRound) -> dict[str, int]:
        gradient = loss_gradient(self.base, self.validation, self.settings)
        return first_order(scored, gradient, ScoreLimits.of(self.settings))


def noise_like(
    contribution: Contribution, name: str, factor: float, seed: list[int]
) -> Contribution:
    """An update of no direction, as long as another's, or a part of it."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for key, array in contribution.arrays.items():
        drawn = rng.normal(size=array.shape)
        drawn *= factor * np.linalg.norm(array) / np.linalg.norm(drawn)
        arrays[key] = drawn.astype(np.float32)
    return Contribution(name, contribution.num_examples, arrays)


def joined_by(scored: ScoredRound, *more: Contribution) -> ScoredRound:
    return replace(scored, accepted=[*scored.accepted, *more])


def mislabelled(records: list[Record], share: float, seed: int) -> tuple[Record, ...]:
    """Records of which a share has the other label."""
    wrong = set(
        np.random.default_rng(seed).permutation(len(records))[: round(share * len(records))]
    )
    return tuple(
        replace(r, completion=next(c for c in r.choices if c != r.completion)) if k in wrong else r
        for k, r in enumerate(records)
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    settings = RunSettings(
        organizations=",".join(WRONG),
        model=str(folder),
        quantization="none",
        compute_dtype="float32",
        data="/data/{organization}.jsonl",
        rank=4,
        alpha=8.0,
        batch_size=8,
        micro_batch_size=8,
        learning_rate=0.01,
        threads=1,
        score_bound=5.0,
    )
    base = load_base_model(base_model_settings(settings), folder)
    pool = labelled_records(272)
    records = {
        name: mislabelled(pool[40 * k : 40 * (k + 1)], share, seed=k)
        for k, (name, share) in enumerate(WRONG.items())
    }
    rule = aggregation_rule(settings, base.linear_shapes())
    return Federation(base, settings, rule, records, tuple(pool[240:]))


@pytest.fixture(scope="module")
def rounds(tiny: Federation) -> list[ScoredRound]:
    """Four rounds, one on the other."""
    state, scored = tiny.rule.initial_state(), []
    for number in (1, 2, 3, 4):
        scored.append(tiny.round(number, state))
        state = tiny.rule.aggregate(state, number, scored[-1].accepted).state
    return scored


def test_right_labels_earn_and_wrong_ones_do_not(
    tiny: Federation, rounds: list[ScoredRound]
) -> None:
    total = dict.fromkeys(WRONG, 0)
    for scored in rounds:
        for name, score in tiny.leave_one_out(scored).items():
            total[name] += score
    assert total["wrong"] == 0
    assert min(total["careful"], total["exact"]) > max(total["sloppy"], total["tossing"])


def test_noise_of_any_size_earns_nothing_to_speak_of(
    tiny: Federation, rounds: list[ScoredRound]
) -> None:
    noisy = honest = 0
    for scored in rounds:
        noise = [
            noise_like(scored.accepted[0], f"noise of {factor}", factor, [scored.round, k])
            for k, factor in enumerate((0.05, 0.3, 1.0))
        ]
        scores = tiny.leave_one_out(joined_by(scored, *noise))
        honest += sum(scores[name] for name in WRONG)
        noisy += sum(scores[c.organization] for c in noise)
    # By chance a direction drawn at random may point the right way a little.
    assert noisy <= 0.01 * honest


def test_a_copier_shares_what_the_copied_alone_would_have_earned(
    tiny: Federation, rounds: list[ScoredRound]
) -> None:
    alone = tiny.leave_one_out(rounds[0])
    best = max(alone, key=lambda name: alone[name])
    original = next(c for c in rounds[0].accepted if c.organization == best)
    copier = replace(original, organization="zz-copier")
    scores = tiny.leave_one_out(joined_by(rounds[0], copier))
    share = alone[best] // 2
    assert share > 0
    assert scores == alone | {best: share, "zz-copier": share}


def test_the_first_order_estimate_ranks_as_leave_one_out_does(
    tiny: Federation, rounds: list[ScoredRound]
) -> None:
    exact = {n: sum(tiny.leave_one_out(r)[n] for r in rounds) for n in WRONG}
    estimate = {n: sum(tiny.first_order(r)[n] for r in rounds) for n in WRONG}
    correlation = spearmanr([exact[n] for n in WRONG], [estimate[n] for n in WRONG]).statistic
    assert correlation > 0.9


def short(records: Iterable[Record]) -> list[Record]:
    """Those that the real model reads in a moment."""
    return [record for record in records if len(record.prompt) < 100]


@pytest.mark.real
def test_noise_earns_nothing_and_two_names_no_more_than_one_on_the_real_model() -> None:
    cache = application_cache()
    settings = RunSettings(public_validation_records=24, batch_size=8, micro_batch_size=8)
    # In float32, as `scoring_base` loads it.
    base = real_base("float32")
    held = {name: embedded_organization(name, cache).train for name in ("newspaper", "shop")}
    records = {
        name: draw(short(rows), 16, seed=1, round=1, organization=name)
        for name, rows in held.items()
    }
    validation = public_validation_set(settings, cache)
    assert validation is not None
    rule = aggregation_rule(settings, base.linear_shapes())
    federation = Federation(base, settings, rule, records, tuple(short(validation.records)))
    scored = federation.round(1, rule.initial_state())
    alone = federation.leave_one_out(scored)
    assert max(alone.values()) > 10_000
    best = max(scored.accepted, key=lambda c: alone[c.organization])
    noise = noise_like(best, "noise", 1.0, seed=[2])
    zeros = noise_like(best, "zeros", 0.0, seed=[2])
    twin = replace(best, organization="twin")
    scores = federation.leave_one_out(joined_by(scored, noise, zeros, twin))
    assert scores["noise"] == scores["zeros"] == 0
    assert scores["twin"] == scores[best.organization]
