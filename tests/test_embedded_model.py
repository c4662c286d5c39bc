"""SmolLM2-135M-Instruct, rebuilt from the real package: the pinned bits and a whole tokenizer."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm.cached_folder import CacheError, sha256_of
from llm.embedded_data import NEGATIVE, POSITIVE
from llm.embedded_model import WEIGHTS_SHA256, embedded_model_path

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(cache):
    return embedded_model_path(cache)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_the_rebuilt_weights_are_the_pinned_ones_and_found_again(cache, folder):
    assert sha256_of(folder / "model.safetensors") == WEIGHTS_SHA256
    steps = []
    assert embedded_model_path(cache, lambda *step: steps.append(step)) == folder
    assert steps == []
    assert sorted(path.name for path in cache.iterdir()) == [f".{folder.name}.lock", folder.name]


def test_one_changed_byte_is_found_and_refused_where_it_cannot_be_rebuilt(
    cache, folder, monkeypatch
):
    monkeypatch.setattr("llm.embedded_model._NEEDED_BYTES", 1 << 60)
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(200_000_000)
        byte = file.read(1)
        file.seek(200_000_000)
        file.write(bytes([byte[0] ^ 1]))
    told = []
    with pytest.raises(CacheError, match="not enough disk space"):
        embedded_model_path(cache, lambda step, done, total: told.append(step))
    assert any(f"expected {WEIGHTS_SHA256}" in step for step in told)
    with weights.open("r+b") as file:
        file.seek(200_000_000)
        file.write(byte)
    assert embedded_model_path(cache) == folder


def test_the_model_answers_through_its_chat_template(folder, tokenizer):
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not hasattr(model.config, "quantization_config")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :])


def test_the_tokenizer_has_its_special_tokens_and_returns_any_text_as_it_was(tokenizer):
    assert tokenizer.bos_token == "<|im_start|>"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [
        *(0, 1, 2)
    ]
    assert len(tokenizer) == 49152
    for text in ["  two  12  spaces\n\n\n", "naïve 東京 😀 \x00", "<|im_start|>user\nhi<|im_end|>"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens_and_the_spaces_before_them_one(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("a   2026")["input_ids"]) == [
        *("a", "ĠĠĠ", "2", "0", "2", "6")
    ]


def test_no_token_is_put_before_a_text_and_each_label_is_one_token(tokenizer):
    assert tokenizer(POSITIVE)["input_ids"] == [2731]
    assert tokenizer(NEGATIVE)["input_ids"] == [3524]
