"""Statistics are those of plain full logits, and every metric is what pencil and paper give."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.evaluation import evaluate
from llm.model_source import BaseModelSettings
from llm.records import Message, Record
from llm.tokenization import encode
from tests.tiny_model import build_tiny_model, labelled_records, start_adapter
from tests.verification_cases import record_evidence, rows, statistics
from unlearning.verification.evidence import (
    Evidence,
    EvidenceById,
    RecordEvidence,
    assemble_evidence,
    gather_evidence,
)
from unlearning.verification.forget_quality import forget_quality_p_value, log_truth_ratio
from unlearning.verification.memorization import (
    accuracy,
    exact_match,
    extraction_strength,
    loss,
    probability,
)
from unlearning.verification.metric import METRICS, MissingEvidenceError, measure, metric
from unlearning.verification.privleak import priv_leak
from unlearning.verification.token_statistics import (
    VerificationError,
    gather_statistics,
    position_statistics,
)

RECORDS = [
    *labelled_records(9),
    Record(
        "long", "Question: where?\nAnswer:", " in the spring", (" in the town", " in the spring")
    ),
    Record("free", "The committee met", " on Monday and agreed that the treaty is good."),
    Record("chat", (Message("user", "hello"),), "a king"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(exact, folder)


@pytest.fixture(scope="module")
def coarse(folder: Path) -> BaseModel:
    settings = BaseModelSettings(model=str(folder), quantization="nf4", compute_dtype="bfloat16")
    return load_base_model(settings, folder)


@torch.no_grad()
def full_log_probabilities(base: BaseModel, record: Record) -> tuple[Tensor, list[int]]:
    """Log-probabilities of the whole vocabulary at the completion's positions, by one forward."""
    [encoded] = encode([record], base.tokenizer, max_tokens=512)
    tokens = torch.tensor([encoded.prompt + encoded.completion])
    logits = base.model(tokens).logits[0].double()
    return logits[len(encoded.prompt) - 1 : -1].log_softmax(-1), list(encoded.completion)


def test_statistics_are_those_of_plain_full_logits(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unlearning.verification.token_statistics._CHUNK", 5)
    monkeypatch.setattr("unlearning.verification.token_statistics._BATCH_TOKENS", 60)
    read = gather_statistics(base, RECORDS)
    assert list(read) == [record.id for record in RECORDS]
    for record in RECORDS:
        whole, targets = full_log_probabilities(base, record)
        probabilities = whole.exp()
        means = (probabilities * whole).sum(-1)
        second_moments = (probabilities * whole**2).sum(-1)
        one = read[record.id]
        assert one.log_probabilities == pytest.approx(
            whole[range(len(targets)), targets].numpy(), abs=1e-4
        )
        assert one.means == pytest.approx(means.numpy(), abs=1e-4)
        assert one.deviations == pytest.approx((second_moments - means**2).sqrt().numpy(), abs=1e-3)
        assert one.greedy.tolist() == (whole.argmax(-1) == torch.tensor(targets)).tolist()
        assert one.ends == (not record.choices)


@pytest.mark.parametrize("name", ["base", "coarse"])
def test_losses_and_choices_are_those_of_evaluation(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: BaseModel = request.getfixturevalue(name)
    adapter = start_adapter(model)
    scores = evaluate(model, RECORDS, adapter).scores
    read = gather_statistics(model, RECORDS, adapter)
    # Company in a batch changes the last bits of bfloat16.
    rel = 1e-4 if name == "base" else 2e-2
    for record in RECORDS:
        score, one = scores[record.id], read[record.id]
        assert one.loss == pytest.approx(score.loss, rel=rel)
        assert one.tokens == score.tokens
        assert one.choice_log_probabilities == pytest.approx(
            score.choice_log_probabilities, rel=rel
        )
    correct = [score.correct for score in scores.values() if score.correct is not None]
    if name == "base":
        evidence = assemble_evidence(read, forget=RECORDS)
        assert METRICS["forget/accuracy"](evidence).value == sum(correct) / len(correct)


def test_a_head_that_does_more_than_multiply_gives_its_own_logits(base: BaseModel) -> None:
    plain = gather_statistics(base, RECORDS)
    by_logits = gather_statistics(replace(base, has_plain_head=False), RECORDS)
    for name, one in plain.items():
        assert by_logits[name].log_probabilities == pytest.approx(one.log_probabilities, abs=1e-4)
        assert by_logits[name].deviations == pytest.approx(one.deviations, abs=1e-4)


def test_statistics_of_one_position_are_those_worked_out_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4: mean -1.5 log 2, deviation log(2) / 2."""
    logits = torch.tensor([[0.5, 0.25, 0.25]] * 2).log()
    targets = torch.tensor([0, 2])
    wanted = logits[[0, 1], targets]
    result = position_statistics(logits, targets, wanted).tolist()
    assert result[0] == pytest.approx([math.log(0.5), math.log(0.25)])
    assert result[1] == pytest.approx([-1.5 * math.log(2)] * 2)
    assert result[2] == pytest.approx([math.log(2) / 2] * 2)
    assert result[3] == [1, 0]


def test_what_is_all_but_certain_is_never_more_than_certain() -> None:
    """bfloat16 makes 20.05 a 20: taken against the exact logit, the token would have e^0.05."""
    exact = torch.tensor([[20.05, 0.0, -1.0]])
    result = position_statistics(exact.bfloat16(), torch.tensor([0]), exact[:, 0])
    assert exact.bfloat16()[0, 0] == 20
    assert -1e-6 < result[0, 0] <= 0


def test_nothing_to_read_and_repeated_records_are_refused(base: BaseModel) -> None:
    with pytest.raises(VerificationError, match="no records"):
        gather_statistics(base, [])
    with pytest.raises(VerificationError, match="ids repeat"):
        gather_statistics(base, [RECORDS[0], RECORDS[0]])


def test_an_adapter_that_blows_up_is_named_by_record(base: BaseModel) -> None:
    huge = LoraAdapter({n: x * 1e30 for n, x in start_adapter(base).arrays.items()}, 8.0)
    with pytest.raises(VerificationError, match="record-0: its log-probabilities are not finite"):
        gather_statistics(base, RECORDS, huge)


def test_loss_counts_every_token_once_and_its_error_is_the_ratios() -> None:
    """Sums 6 and 2 over 2 and 2 tokens: 2; residuals 2 and -2, so sqrt(2 * 8) / 4."""
    result = loss({"a": record_evidence([-2, -4]), "b": record_evidence([-1, -1])})
    assert result.value == 2
    assert result.n == 2
    assert result.standard_error == pytest.approx(1)
    assert result.by_record == {"a": 3, "b": 1}
    uneven = loss({"a": record_evidence([-3]), "b": record_evidence([-1, -1, -1])})
    assert uneven.value == 1.5
    assert loss({"a": record_evidence([-3])}).standard_error is None


def test_the_mean_of_a_ratio_has_the_spread_of_its_resamples() -> None:
    generator = np.random.default_rng(3)
    tokens = generator.integers(1, 9, size=200)
    evidence = [record_evidence(-generator.exponential(size=count)) for count in tokens]
    losses = np.array([row.statistics.loss for row in evidence])
    picks = generator.integers(200, size=(4000, 200))
    resampled = losses[picks].sum(1) / tokens[picks].sum(1)
    result = loss({str(index): row for index, row in enumerate(evidence)})
    assert result.standard_error == pytest.approx(resampled.std(), rel=0.05)


def classified(right: float, wrong: float) -> RecordEvidence:
    return RecordEvidence(statistics([right], choices=[(wrong, 1), (right, 1)], answer=1), 10)


def test_accuracy_counts_classified_records_alone_and_a_tie_is_no_answer() -> None:
    result = accuracy(
        {
            "right": classified(-1, -2),
            "wrong": classified(-2, -1),
            "tie": classified(-1, -1),
            "free": record_evidence([-1]),
        }
    )
    assert result.value == pytest.approx(1 / 3)
    assert result.n == 3
    assert result.by_record == {"right": 1, "wrong": 0, "tie": 0}
    with pytest.raises(MissingEvidenceError, match="no record has choices"):
        accuracy({"free": record_evidence([-1])})


def test_probability_is_the_mean_of_the_records_geometric_means() -> None:
    """(1/2 * 1/8)^(1/2) = 1/4, and 1/2."""
    result = probability(
        {
            "a": record_evidence([math.log(0.5), math.log(0.125)]),
            "b": record_evidence([math.log(0.5)]),
        }
    )
    assert result.value == pytest.approx(0.375)
    assert result.by_record == pytest.approx({"a": 0.25, "b": 0.5})
    assert result.standard_error == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("greedy", "match", "strength"),
    [
        ([True, True, True, True], 1, 1.0),
        ([False, True, True, True], 0, 0.75),
        ([True, True, False, True], 0, 0.25),
        ([True, True, True, False], 0, 0.0),
        ([False, False, False, False], 0, 0.0),
        ([True], 1, 1.0),
        ([False], 0, 0.0),
    ],
)
def test_what_greedy_decoding_gives_is_told_by_the_most_probable_tokens(
    greedy: Sequence[bool], match: int, strength: float
) -> None:
    row = RecordEvidence(statistics([-1.0] * len(greedy), greedy=greedy), 10)
    assert exact_match({"a": row}).value == match
    assert extraction_strength({"a": row}).value == strength


def test_a_model_that_recites_the_text_and_does_not_stop_has_recited_it() -> None:
    row = RecordEvidence(statistics([-1.0] * 3, greedy=[True, True, False], ends=True), 10)
    assert exact_match({"a": row}).value == 1
    assert extraction_strength({"a": row}).value == 1


def test_every_metric_for_which_the_evidence_suffices_is_computed() -> None:
    evidence = Evidence(rows("f", [1, 2]), hold_out=rows("h", [1, 3]))
    results = measure(evidence)
    assert {name.partition("/")[0] for name in results} == {"forget", "hold_out", "membership"}
    assert "forget/accuracy" not in results
    assert "membership/reference" not in results
    assert results["forget/loss"].value == 1.5
    assert results["hold_out/loss"].value == 2
    named = measure(evidence, ["membership/loss", "forget/loss"])
    assert list(named) == ["membership/loss", "forget/loss"]
    with pytest.raises(MissingEvidenceError, match="the retain set is empty"):
        measure(evidence, ["retain/loss"])
    with pytest.raises(ValueError, match="metric 'rouge': expected one of forget/accuracy, "):
        measure(evidence, ["rouge"])


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="forget/loss is there already"):
        metric("forget/loss")(METRICS["forget/loss"])


def test_a_record_belongs_to_one_set() -> None:
    with pytest.raises(VerificationError, match="record f-0 is in the forget set and in the"):
        Evidence(rows("f", [1]), hold_out=rows("f", [1]))


def test_one_pass_reads_all_sets_and_remembers_the_base(base: BaseModel) -> None:
    adapter = start_adapter(base)
    forget, retain, hold_out = RECORDS[:4], RECORDS[4:8], RECORDS[8:]
    reference = gather_statistics(base, [*forget, *hold_out])
    evidence = gather_evidence(
        base, adapter, forget=forget, retain=retain, hold_out=hold_out, reference=reference
    )
    assert list(evidence.forget) == [record.id for record in forget]
    assert list(evidence.retain) == [record.id for record in retain]
    assert set(measure(evidence)) == set(METRICS)
    row = evidence.hold_out["free"]
    assert row.reference is reference["free"]
    assert row.compressed_bytes == 52
    untouched = gather_evidence(base, None, forget=forget, hold_out=hold_out, reference=reference)
    assert measure(untouched)["membership/reference"].value == 0.5


def tables(right: Sequence[float], wrong: Sequence[float]) -> EvidenceById:
    return {
        str(index): classified(*pair) for index, pair in enumerate(zip(right, wrong, strict=True))
    }


def test_the_truth_ratio_compares_wrong_choices_with_the_right_one_token_by_token() -> None:
    """Right 1/4 over 2 tokens is 1/2; wrong 1/8 over 3 is 1/2 and 1/16 over 1: (9/32) / (1/2)."""
    one = statistics(
        [math.log(0.5)] * 2,
        choices=[(math.log(1 / 8), 3), (math.log(1 / 4), 2), (math.log(1 / 16), 1)],
        answer=1,
    )
    assert math.exp(log_truth_ratio(one)) == pytest.approx(9 / 16)
    certain = statistics([-9000], choices=[(-1, 1), (-9000, 1)], answer=1)
    assert log_truth_ratio(certain) == 8999


def test_forget_quality_is_the_tests_p_value_on_truth_ratios_or_losses() -> None:
    same = forget_quality_p_value(rows("f", [1, 2, 3]), rows("f", [1, 2, 3]))
    assert same.value == 1
    assert same.by_record == {"f-0": 1, "f-1": 2, "f-2": 3}
    # Two samples of 5 and 5 without overlap: 2 of the C(10, 5) = 252 orders are as far apart.
    apart = forget_quality_p_value(rows("f", range(5)), rows("f", range(10, 15)))
    assert apart.value == pytest.approx(2 / 252)
    unlearned, retrained = tables([-1, -2, -3, -4], [-2] * 4), tables([-1, -1, -2, -5], [-2] * 4)
    by_choices = forget_quality_p_value(unlearned, retrained)
    ratios = ([-1, 0, 1, 2], [-1, -1, 0, 3])
    assert list(by_choices.by_record.values()) == pytest.approx(ratios[0])
    assert by_choices.value == pytest.approx(ks_2samp(*ratios).pvalue)
    # Where one record has no choices, all are judged by their loss.
    mixed = forget_quality_p_value({**unlearned, **rows("f", [9])}, retrained)
    assert mixed.by_record["0"] == 1
    with pytest.raises(MissingEvidenceError, match="the forget set is empty"):
        forget_quality_p_value({}, retrained)


def test_priv_leak_is_negative_where_the_forget_set_still_looks_familiar() -> None:
    """Areas 1 and 3/4 of ours are 0 and 1/4 of MUSE's: (0 - 1/4) / (1/4)."""
    hold_out = rows("h", [2, 4])
    retrained = Evidence(rows("f", [1, 3]), hold_out=hold_out)
    familiar = Evidence(rows("f", [1, 1]), hold_out=hold_out)
    strange = Evidence(rows("f", [9, 9]), hold_out=hold_out)
    assert priv_leak(familiar, retrained).value == -1
    assert priv_leak(strange, retrained).value == 3
    assert priv_leak(retrained, retrained).value == 0
    with pytest.raises(VerificationError, match="divides by nothing"):
        priv_leak(retrained, familiar)
    with pytest.raises(VerificationError, match="different records"):
        priv_leak(Evidence(rows("x", [1, 3]), hold_out=hold_out), retrained)


def test_priv_leak_looks_at_two_fifths_of_the_tokens() -> None:
    """The two least probable of five tokens decide, though the five together say the opposite."""
    forget = {"f": record_evidence([-5, -5, 0, 0, 0])}
    hold_out = {"h": record_evidence([-4, -4, -4, -4, -4])}
    other = {"f": record_evidence([-3, -3, -9, 0, 0])}
    mixed = {"h": record_evidence([-5.5, -5.5, 0, 0, 0])}
    ours = Evidence(forget, hold_out=hold_out)
    retrained = Evidence(other, hold_out=mixed)
    assert priv_leak(ours, retrained).value == 0
    assert priv_leak(ours, retrained).by_record == {"f": -5, "h": -4}
