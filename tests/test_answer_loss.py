"""A model is judged by its answers, right choices and right tokens, none of which decides alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.adapters import AdapterError, LoraAdapter
from llm.answer_loss import answer_gradient, answer_loss
from llm.base_model import BaseModel, load_base_model
from llm.evaluation import evaluate
from llm.factors import B_SUFFIX
from llm.generalized_cross_entropy import USUAL_POWER, generalized
from llm.model_source import BaseModelSettings
from llm.records import Message, Record
from llm.tokenization import encode
from tests.tiny_model import build_tiny_model, labelled_records, start_adapter

CHOSEN = [
    *labelled_records(40),
    # Choices of several tokens, of which two begin alike.
    Record("several", "The king", " of the town", (" of the town", " of the village", " sleeps")),
]
FREE = [
    Record("free", "The committee met", " on Monday and agreed."),
    Record("chat", (Message("user", "hello"),), "a king"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(exact, folder)


def bounded(probability: float) -> float:
    """The loss as documented."""
    return (1.0 - probability**0.7) / 0.7


def loss_of(base: BaseModel, records: list[Record], adapter: LoraAdapter) -> float:
    with answer_loss(base, records) as loss:
        return loss(adapter)


def by_choices(base: BaseModel, records: list[Record], adapter: LoraAdapter) -> float:
    """The mean loss of records with choices, from what an evaluation says of each choice."""
    scores = evaluate(base, records, adapter).scores
    found = []
    for record in records:
        weights = [math.exp(value) for value in scores[record.id].choice_log_probabilities]
        right = weights[record.choices.index(record.completion)]
        found.append(bounded(right / math.fsum(weights)))
    return math.fsum(found) / len(found)


@given(st.floats(1e-6, 1.0), st.sampled_from([0.1, 0.5, USUAL_POWER, 1.0]))
def test_the_generalized_cross_entropy_is_bounded_and_below_the_cross_entropy(
    probability: float, power: float
) -> None:
    surprise = torch.tensor([-math.log(probability)], dtype=torch.float64)
    loss = float(generalized(surprise, power)[0])
    assert loss == pytest.approx((1 - probability**power) / power, abs=1e-12)
    assert 0.0 <= loss <= min(1 / power, float(surprise[0]) + 1e-12)
    assert float(generalized(surprise, 0.0)[0]) == float(surprise[0])


@pytest.mark.parametrize("power", [-0.1, 1.1, math.nan])
def test_a_power_out_of_range_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        generalized(torch.zeros(1), power)


def test_records_with_choices_are_judged_by_the_choices_alone(base: BaseModel) -> None:
    adapter = start_adapter(base)
    assert loss_of(base, CHOSEN, adapter) == pytest.approx(by_choices(base, CHOSEN, adapter))


def test_free_text_is_judged_token_by_token(base: BaseModel) -> None:
    adapter = start_adapter(base)
    silent = {n: x * 0 if n.endswith(B_SUFFIX) else x for n, x in adapter.arrays.items()}
    found = []
    for record in encode(FREE, base.tokenizer, max_tokens=512):
        tokens = torch.tensor([[*record.prompt, *record.completion]])
        with torch.no_grad():
            logits = base.model(input_ids=tokens).logits[0, :-1].double()
        right = logits.softmax(-1).gather(1, tokens[0, 1:, None])[-len(record.completion) :, 0]
        found += [bounded(float(probability)) for probability in right]
    assert len(found) > len(FREE)
    expected = math.fsum(found) / len(found)
    assert loss_of(base, FREE, LoraAdapter(silent, 8.0)) == pytest.approx(expected, rel=1e-5)


def test_choices_and_tokens_of_free_text_count_one_each(base: BaseModel) -> None:
    adapter = start_adapter(base)
    tokens = sum(score.tokens for score in evaluate(base, FREE, adapter).scores.values())
    chosen, free = loss_of(base, CHOSEN, adapter), loss_of(base, FREE, adapter)
    both = (len(CHOSEN) * chosen + tokens * free) / (len(CHOSEN) + tokens)
    assert loss_of(base, [*FREE, *CHOSEN], adapter) == pytest.approx(both)


def test_of_two_choices_the_probabilities_add_up_to_one(base: BaseModel) -> None:
    adapter = start_adapter(base)
    for record in labelled_records(5):
        other = replace(
            record, completion=next(c for c in record.choices if c != record.completion)
        )
        losses = [loss_of(base, [one], adapter) for one in (record, other)]
        assert math.fsum((1 - 0.7 * loss) ** (1 / 0.7) for loss in losses) == pytest.approx(1.0)


def test_every_adapter_has_its_loss_in_any_order_and_the_base_is_as_it_was(base: BaseModel) -> None:
    whole = start_adapter(base)
    silent = {n: x * 0 if n.endswith(B_SUFFIX) else x for n, x in whole.arrays.items()}
    tried = [whole, LoraAdapter(silent, 8.0), start_adapter(base, alpha=64)]
    before = evaluate(base, CHOSEN).loss
    with answer_loss(base, [*FREE, *CHOSEN]) as loss:
        forwards = [loss(adapter) for adapter in tried]
        backwards = [loss(adapter) for adapter in reversed(tried)]
    assert backwards == forwards[::-1]
    assert len(set(forwards)) == len(tried)
    assert evaluate(base, CHOSEN).loss == before


def test_the_gradient_is_the_slope_of_the_loss(base: BaseModel) -> None:
    adapter = start_adapter(base)
    records = [*FREE, *CHOSEN]
    slope = answer_gradient(base, records, adapter)
    assert slope.keys() == adapter.arrays.keys()
    length = math.sqrt(math.fsum(float(np.sum(np.square(g))) for g in slope.values()))
    step = 1e-2
    along = [
        LoraAdapter(
            {n: x + np.float32(sign * step / length) * slope[n] for n, x in adapter.arrays.items()},
            adapter.alpha,
        )
        for sign in (1.0, -1.0)
    ]
    with answer_loss(base, records) as loss:
        rise = loss(along[0]) - loss(along[1])
    assert rise / (2 * step) == pytest.approx(length, rel=0.02)


def test_an_adapter_of_another_model_and_no_records_are_refused(base: BaseModel) -> None:
    stranger = {n.replace("layers.0", "layers.7"): x for n, x in start_adapter(base).arrays.items()}
    with answer_loss(base, CHOSEN) as loss, pytest.raises(AdapterError):
        loss(LoraAdapter(stranger, 8.0))
    with pytest.raises(ValueError, match="no records"), answer_loss(base, []):
        pass
    with pytest.raises(ValueError, match="no records"):
        answer_gradient(base, [], start_adapter(base))
