"""Answers: the same at every call, and with the adapter another."""

import pytest
import torch

from llm.base_model import BaseModel, load_base_model
from llm.generation import generate
from llm.model_source import BaseModelSettings
from llm.records import Message
from llm.tokenization import TokenizationError
from tests.tiny_model import build_tiny_model, start_adapter

PROMPT = "The committee met on"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(exact, folder)


def greedy(base: BaseModel, prompt: str, count: int) -> str:
    """The most probable token each time, without a cache."""
    tokens = base.tokenizer(prompt)["input_ids"]
    start = len(tokens)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(base.model(torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == base.tokenizer.eos_token_id:
            break
    return str(base.tokenizer.decode(tokens[start:], skip_special_tokens=True))


def test_the_answer_is_the_most_probable_token_each_time(base: BaseModel) -> None:
    assert generate(base, PROMPT, max_new_tokens=12) == greedy(base, PROMPT, 12) != ""


def test_an_adapter_answers_otherwise_and_leaves_the_base_as_it_was(base: BaseModel) -> None:
    before = generate(base, PROMPT)
    adapter = start_adapter(base, alpha=64)
    answer = generate(base, PROMPT, adapter)
    assert answer != before
    assert generate(base, PROMPT, adapter) == answer
    assert generate(base, PROMPT) == before


def test_draws_follow_the_seed_and_leave_the_global_state_alone(base: BaseModel) -> None:
    state = torch.get_rng_state()
    answers = {generate(base, PROMPT, temperature=5.0, seed=seed) for seed in (1, 2, 3)}
    assert len(answers) > 1
    assert generate(base, PROMPT, temperature=5.0, seed=1) in answers
    assert torch.equal(torch.get_rng_state(), state)


def test_a_chat_is_answered(base: BaseModel) -> None:
    assert isinstance(generate(base, (Message("user", "hello"),), max_new_tokens=3), str)


def test_a_chat_without_a_template_is_refused_with_what_to_do(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.tokenizer, "chat_template", None)
    with pytest.raises(TokenizationError, match="no chat template; give prompt and completion"):
        generate(base, (Message("user", "hello"),))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"),
    ],
)
def test_impossible_requests_are_refused(
    base: BaseModel, wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(base, PROMPT, **wrong)


def test_an_empty_prompt_is_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(base, "")
