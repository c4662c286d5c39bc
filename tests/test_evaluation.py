"""Every row counts once, and counts what plain transformers says it is worth."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import llm.evaluation as evaluation_module
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.embedded_data import embedded_organization
from llm.evaluation import EvaluationError, evaluate, general_text_loss
from llm.factors import B_SUFFIX
from llm.model_source import BaseModelSettings
from llm.records import Message, Record
from tests.real_model import application_cache, real_base
from tests.tiny_model import build_tiny_model, labelled_records, start_adapter

RECORDS = labelled_records(15)
LONG_CHOICES = Record(
    "long", "Question: where?\nAnswer:", " in the spring", (" in the town", " in the spring", " no")
)
FREE = Record("free", "The committee met", " on Monday and agreed.")
CHAT = Record("chat", (Message("user", "hello"),), "a king")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(exact, folder)


def log_probability(base: BaseModel, prompt: list[int], completion: list[int]) -> float:
    """The completion's log-probability by one plain forward of the whole sequence."""
    with torch.no_grad():
        logits = base.model(torch.tensor([prompt + completion])).logits[0]
    scores = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(scores[range(len(completion)), completion].sum())


def plain(base: BaseModel, text: str) -> list[int]:
    return list(base.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_choices_score_as_plain_transformers_scores_each_of_them(base: BaseModel) -> None:
    records = [*RECORDS, LONG_CHOICES]
    scores = evaluate(base, records).scores
    for record in records:
        expected = [
            log_probability(base, plain(base, record.prompt), plain(base, choice))
            for choice in record.choices
        ]
        score = scores[record.id]
        assert score.choice_log_probabilities == pytest.approx(expected, rel=1e-4)
        answer = record.choices.index(record.completion)
        assert score.loss == pytest.approx(-expected[answer], rel=1e-4)
        assert score.correct == (max(expected) == expected[answer])
        assert score.tokens == len(plain(base, record.completion))


def test_free_text_and_chats_score_their_completion_and_its_end(base: BaseModel) -> None:
    scores = evaluate(base, [FREE, CHAT]).scores
    end = [base.tokenizer.eos_token_id]
    chat = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=False
    )
    for record, prompt in ((FREE, plain(base, str(FREE.prompt))), (CHAT, list(chat))):
        completion = plain(base, record.completion) + end
        score = scores[record.id]
        assert score.loss == pytest.approx(-log_probability(base, prompt, completion), rel=1e-4)
        assert score.tokens == len(completion)
        assert score.correct is None


def test_aggregates_are_those_of_the_rows(base: BaseModel) -> None:
    evaluation = evaluate(base, [*RECORDS, FREE])
    rows = evaluation.scores.values()
    assert list(evaluation.scores) == [record.id for record in (*RECORDS, FREE)]
    assert evaluation.records == 16
    assert evaluation.accuracy == sum(bool(row.correct) for row in rows) / 15
    assert evaluation.loss == pytest.approx(
        sum(row.loss for row in rows) / sum(row.tokens for row in rows)
    )
    assert evaluation.perplexity == pytest.approx(math.exp(evaluation.loss))
    assert evaluate(base, [FREE]).accuracy is None


def test_neither_order_nor_company_changes_a_records_score(base: BaseModel) -> None:
    together = evaluate(base, [*RECORDS, LONG_CHOICES, FREE]).scores
    reverse = evaluate(base, [FREE, LONG_CHOICES, *RECORDS[::-1]]).scores
    for record in (*RECORDS, LONG_CHOICES, FREE):
        alone = evaluate(base, [record]).scores[record.id]
        for other in (together[record.id], reverse[record.id]):
            assert other.loss == pytest.approx(alone.loss, rel=1e-4)
            assert other.correct == alone.correct


def test_batches_of_any_size_give_the_same_scores(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(base, [*RECORDS, LONG_CHOICES]).scores
    monkeypatch.setattr("llm.evaluation._BATCH_TOKENS", 50)
    calls: list[tuple[int, int]] = []
    pieces = evaluate(
        base, [*RECORDS, LONG_CHOICES], progress=lambda *call: calls.append(call)
    ).scores
    assert len(calls) > 3
    assert calls[-1][0] == calls[-1][1] == 17
    for name, score in whole.items():
        assert pieces[name].choice_log_probabilities == pytest.approx(
            score.choice_log_probabilities, rel=1e-4
        )


def test_an_adapter_changes_scores_and_a_silent_one_does_not(base: BaseModel) -> None:
    adapter = start_adapter(base)
    silent = LoraAdapter(
        {n: x * 0 if n.endswith(B_SUFFIX) else x for n, x in adapter.arrays.items()}, 8.0
    )
    untouched = evaluate(base, RECORDS)
    assert evaluate(base, RECORDS, adapter).loss != pytest.approx(untouched.loss, rel=1e-3)
    assert evaluate(base, RECORDS, silent).loss == pytest.approx(untouched.loss, rel=1e-6)


def test_the_general_texts_loss_is_that_of_plain_transformers(base: BaseModel) -> None:
    file = Path(evaluation_module.__file__).with_name("general_text.json")
    loss, count = 0.0, 0
    for passage in json.loads(file.read_text())["passages"]:
        tokens = plain(base, passage["text"])
        loss -= log_probability(base, tokens[:1], tokens[1:])
        count += len(tokens) - 1
    assert general_text_loss(base) == pytest.approx(loss / count, rel=1e-5)
    adapter = start_adapter(base, alpha=64)
    assert general_text_loss(base, adapter) != pytest.approx(loss / count, rel=2e-5)


def test_what_the_untouched_base_makes_of_the_general_text_is_read_once(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[BaseModel, LoraAdapter | None]] = []
    monkeypatch.setattr(evaluation_module, "_general_losses", {})
    monkeypatch.setattr(
        evaluation_module, "_read_general_text", lambda *of: read.append(of) or float(len(read))
    )
    coarser, adapter = replace(base, quantization="int8"), start_adapter(base)
    assert [general_text_loss(model) for model in (base, coarser, base)] == [1.0, 2.0, 1.0]
    assert [general_text_loss(base, adapter) for _ in range(2)] == [3.0, 4.0]
    assert read == [(base, None), (coarser, None), (base, adapter), (base, adapter)]


def test_choices_as_likely_as_one_another_are_no_right_answer(base: BaseModel) -> None:
    """A model that says the same of every word knows nothing, though a coin is right by half."""
    head = base.model.get_output_embeddings().weight
    before = head.detach().clone()
    try:
        head.zero_()
        assert evaluate(base, RECORDS).accuracy == 0
    finally:
        head.copy_(before)


def test_long_prompts_lose_their_beginning(base: BaseModel) -> None:
    long = Record("r", "word " * 100 + "good film\nSentiment:", " positive", RECORDS[0].choices)
    short_tokens = plain(base, str(long.prompt))[-19:]
    score = evaluate(base, [long], max_tokens=20).scores["r"]
    expected = log_probability(base, short_tokens, plain(base, " positive"))
    assert score.loss == pytest.approx(-expected, rel=1e-4)


def test_nothing_to_evaluate_and_repeated_records_are_refused(base: BaseModel) -> None:
    with pytest.raises(EvaluationError, match="no records"):
        evaluate(base, [])
    with pytest.raises(EvaluationError, match="ids repeat"):
        evaluate(base, [FREE, FREE])


def test_an_adapter_that_blows_up_is_named_by_record(base: BaseModel) -> None:
    huge = LoraAdapter({n: x * 1e30 for n, x in start_adapter(base).arrays.items()}, 8.0)
    with pytest.raises(EvaluationError, match="record-0: its log-probability is not finite"):
        evaluate(base, RECORDS, huge)


@pytest.mark.real
def test_the_real_model_is_better_than_chance_and_reads_general_text() -> None:
    base = real_base()
    data = embedded_organization("microblog", application_cache())
    evaluation = evaluate(base, data.test[:40])
    assert evaluation.accuracy is not None
    assert evaluation.accuracy > 0.6
    assert 2.0 < general_text_loss(base) < 4.5
