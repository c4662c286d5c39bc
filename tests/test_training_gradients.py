"""Our layers against PEFT's and transformers' own, in float32, where only rounding may differ."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from llm.adapted_model import adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.factors import A_SUFFIX, B_SUFFIX
from llm.llama_layer import MAX_LENGTH, gated, rms_norm, rotary_causal_attention
from llm.model_source import BaseModelSettings
from llm.tokenization import Row, collate
from llm.trained_factors import TrainedFactors, TrainedPart
from tests.tiny_model import build_tiny_model, start_adapter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    settings = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(settings, folder)


def rows(lengths: tuple[int, ...]) -> list[Row]:
    generator = torch.Generator().manual_seed(1)
    return [
        Row(
            tuple(torch.randint(3, 400, (length,), generator=generator).tolist()),
            tuple(torch.randint(3, 400, (2,), generator=generator).tolist()),
        )
        for length in lengths
    ]


def our_gradients(
    base: BaseModel, adapter: LoraAdapter, part: TrainedPart, batch_rows: list[Row], **how: bool
) -> tuple[float, list[torch.Tensor]]:
    factors = TrainedFactors(adapter, part, base.compute_dtype, base.device)
    with adapted(base, adapter, **how) as model:
        model.put(factors.assemble())
        loss = model.loss(collate(batch_rows, padding=0, device=CPU))
        loss.backward()
    return float(loss.detach()), [p.grad for p in factors.parameters if p.grad is not None]


def peft_gradients(
    base: BaseModel, adapter: LoraAdapter, batch_rows: list[Row]
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The same loss, row by row without padding, through plain transformers and PEFT."""
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    peft = get_peft_model(
        plain,
        LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, target_modules="all-linear"),
    )
    state = {name: torch.from_numpy(array) for name, array in adapter.arrays.items()}
    set_peft_model_state_dict(peft, state)
    loss = torch.zeros(())
    for row in batch_rows:
        logits = peft(input_ids=torch.tensor([row.tokens])).logits[0, -len(row.targets) :]
        loss = loss + torch.nn.functional.cross_entropy(
            logits, torch.tensor(row.targets), reduction="sum"
        )
    loss.backward()
    named = {name.replace(".default", ""): p for name, p in peft.named_parameters()}
    modules = sorted({name.removesuffix(A_SUFFIX).removesuffix(B_SUFFIX) for name in state})
    a = torch.cat([named[m + A_SUFFIX].grad.flatten() for m in modules])
    b = torch.cat([named[m + B_SUFFIX].grad.flatten() for m in modules])
    return float(loss.detach()), a, b


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("lengths", [(7,), (40, 33, 38, 12), (MAX_LENGTH + 3, MAX_LENGTH)])
@pytest.mark.parametrize("keep_weights", [True, False])
def test_padded_rows_give_the_loss_and_gradients_of_peft_on_each_row_alone(
    base: BaseModel, lengths: tuple[int, ...], keep_weights: bool
) -> None:
    adapter = start_adapter(base)
    batch = rows(lengths)
    loss, (a, b) = our_gradients(
        base, adapter, TrainedPart(True, True, adapter.rank), batch, keep_weights=keep_weights
    )
    their_loss, their_a, their_b = peft_gradients(base, adapter, batch)
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert relative_error(a, their_a) < 1e-4
    assert relative_error(b, their_b) < 1e-4


@pytest.mark.parametrize("trained", ["a", "b"])
def test_training_one_factor_gives_the_gradient_it_has_when_both_are_trained(
    base: BaseModel, trained: str
) -> None:
    adapter = start_adapter(base)
    batch = rows((20, 17))
    both = our_gradients(base, adapter, TrainedPart(True, True, adapter.rank), batch)[1]
    part = TrainedPart(trained == "a", trained == "b", adapter.rank)
    (one,) = our_gradients(base, adapter, part, batch)[1]
    assert torch.allclose(one, both["ab".index(trained)], rtol=1e-4, atol=1e-6)


def test_an_adapter_on_a_few_layers_leaves_the_others_without_a_path(base: BaseModel) -> None:
    whole = start_adapter(base)
    some = {n: x for n, x in whole.arrays.items() if "k_proj" in n or "up_proj" in n}
    zeroed = {n: x if n in some else x * 0 for n, x in whole.arrays.items()}
    batch = rows((20, 17))
    with adapted(base, LoraAdapter(some, whole.alpha)) as model:
        loss = float(model.loss(collate(batch, padding=0, device=CPU)))
    with adapted(base, LoraAdapter(zeroed, whole.alpha)) as model:
        expected = float(model.loss(collate(batch, padding=0, device=CPU)))
    assert loss == pytest.approx(expected, rel=1e-6)


def test_the_base_is_as_it_was_after_an_adapter_was_on_it(base: BaseModel) -> None:
    tokens = torch.arange(5, 25)[None]
    before = base.model(tokens).logits
    with adapted(base, start_adapter(base)):
        assert not torch.equal(base.model(tokens).logits, before)
    assert torch.equal(base.model(tokens).logits, before)
    assert all("forward" not in vars(module) for module in base.model.modules())


def test_the_norm_equals_transformers_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    norm = LlamaRMSNorm(48, eps=1e-5)
    torch.nn.init.normal_(norm.weight)
    x = (torch.randn(11, 48) * 3).requires_grad_()
    g = torch.randn(11, 48)
    (theirs,) = torch.autograd.grad(norm(x), x, g)
    y = rms_norm(x, norm.weight.detach(), 1e-5)
    (ours,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close(y, norm(x))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_gate_equals_silu_times_up_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 40, requires_grad=True)
    g = torch.randn(9, 20)
    expected = torch.nn.functional.silu(x[:, :20]) * x[:, 20:]
    (theirs,) = torch.autograd.grad(expected, x, g)
    (ours,) = torch.autograd.grad(gated(x), x, g)
    torch.testing.assert_close(gated(x), expected)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 58])
@pytest.mark.parametrize("groups", [1, 3])
def test_attention_equals_rotation_and_torch_attention_in_value_and_gradient(
    length: int, groups: int
) -> None:
    torch.manual_seed(0)
    rows_, key_heads, head_dim = 2, 2, 16
    heads = key_heads * (groups + 2)
    qkv = torch.randn(rows_ * length, heads * head_dim, requires_grad=True)
    angles = torch.randn(1, length, head_dim // 2).repeat(1, 1, 2)
    cos, sin = angles.cos(), angles.sin()
    ours = rotary_causal_attention(qkv, cos, sin, length, head_dim, groups, 0.3)
    q, k, v = (
        qkv.view(rows_, length, heads, head_dim)
        .transpose(1, 2)
        .split([groups * key_heads, key_heads, key_heads], dim=1)
    )
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=0.3, enable_gqa=True
    )
    theirs = theirs.transpose(1, 2).reshape(ours.shape)
    g = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(ours, qkv, g)[0],
        torch.autograd.grad(theirs, qkv, g)[0],
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_damaged_gradient_would_be_seen(base: BaseModel, tmp_path: Path) -> None:
    """The comparison above fails for a scale left out, which changes no shape and no sign."""
    adapter = start_adapter(base)
    batch = rows((20, 17))
    _, their_a, _ = peft_gradients(base, adapter, batch)
    unscaled = LoraAdapter(adapter.arrays, float(adapter.rank))
    _, (a, _) = our_gradients(base, unscaled, TrainedPart(True, True, adapter.rank), batch)
    assert relative_error(a, their_a) > 0.1
