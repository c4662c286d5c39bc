"""Gradients on the 4-bit model against its dequantized twin, before and after an evaluation.

bitsandbytes' CPU layers repack their weights for inference and then give wrong gradients; a
federated client evaluates first and trains then.
"""

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from llm.adapted_model import adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.evaluation import evaluate
from llm.generation import generate
from llm.model_source import BaseModelSettings, Quantization
from llm.quantization import dequantized_weight, quantization_config
from llm.tokenization import collate, completion_row, encode
from llm.trained_factors import TrainedFactors, TrainedPart
from tests.tiny_model import build_tiny_model, labelled_records, start_adapter

RECORDS = labelled_records(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, quantization: Quantization, dtype: str) -> BaseModel:
    settings = BaseModelSettings(model=str(folder), quantization=quantization, compute_dtype=dtype)
    return load_base_model(settings, folder)


def dequantized_twin(quantized: BaseModel, folder: Path) -> BaseModel:
    """The same model with plain linear layers that hold the dequantized weights."""
    weights = {
        name: dequantized_weight(module, quantized.compute_dtype).clone()
        for name, module in quantized.model.named_modules()
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt)
    }
    assert weights
    twin = load(folder, "none", str(quantized.compute_dtype).removeprefix("torch."))
    for name, weight in weights.items():
        linear = twin.model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        linear.weight = nn.Parameter(weight, requires_grad=False)
    return twin


def gradients(base: BaseModel, adapter: LoraAdapter) -> Tensor:
    part = TrainedPart(train_a=True, train_b=True, rank=adapter.rank)
    factors = TrainedFactors(adapter, part, base.compute_dtype, base.device)
    rows = [
        completion_row(r.prompt, r.completion)
        for r in encode(RECORDS, base.tokenizer, max_tokens=512)
    ]
    with adapted(base, adapter) as model:
        model.put(factors.assemble())
        model.loss(collate(rows, padding=0, device=base.device)).backward()
    return torch.cat([p.grad for p in factors.parameters if p.grad is not None])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_gradients_equal_those_of_the_dequantized_model_before_and_after_an_evaluation(
    folder: Path, quantization: Quantization, dtype: str
) -> None:
    base = load(folder, quantization, dtype)
    adapter = start_adapter(base)
    before = gradients(base, adapter)
    evaluate(base, RECORDS, adapter)
    generate(base, "Review: a film", adapter, max_new_tokens=3)
    after = gradients(base, adapter)
    expected = gradients(dequantized_twin(base, folder), adapter)
    assert expected.norm() > 0
    assert torch.equal(before, after)
    assert torch.equal(before, expected)


def test_a_forward_of_the_bare_model_leaves_the_weights_unpacked(folder: Path) -> None:
    base = load(folder, "nf4", "bfloat16")
    layers = [m for m in base.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    codes = [layer.weight.data.clone() for layer in layers]
    with torch.no_grad():
        base.model(torch.arange(5, 25)[None])
    assert layers
    assert all(torch.equal(layer.weight.data, c) for layer, c in zip(layers, codes, strict=True))


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16", False),
    reason="bitsandbytes packs weights only where the processor has AVX512-BF16",
)
def test_the_trap_is_still_there_where_packing_is_not_forbidden(folder: Path) -> None:
    """Should this fail, bitsandbytes was mended: ``forbid_inference_packing`` can go."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization_config("nf4", torch.bfloat16), dtype=torch.bfloat16
    )
    layer = next(m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit))
    x = torch.randn(3, layer.in_features, dtype=torch.bfloat16, requires_grad=True)
    g = torch.randn(3, layer.out_features, dtype=torch.bfloat16)
    expected = g.float() @ dequantized_weight(layer, torch.float32)
    layer.eval()
    with torch.no_grad():
        layer(x.detach())
    try:
        layer.train()
        (ours,) = torch.autograd.grad(layer(x), x, g)
    except RuntimeError:
        return
    assert (ours.float() - expected).norm() > 0.5 * expected.norm()
