"""Each row's loss and its gradient, against plain logits and autograd in float32."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm.adapted_model import AdaptedModel, adapted
from llm.base_model import BaseModel, load_base_model
from llm.completion_loss import (
    cross_entropies,
    summed_cross_entropy,
    target_log_probabilities,
)
from llm.model_source import BaseModelSettings
from llm.tokenization import Batch, Row, collate
from llm.trained_factors import TrainedFactors, TrainedPart
from tests.tiny_model import build_tiny_model, start_adapter
from unlearning.methods import METHODS

CPU = torch.device("cpu")
#: (input tokens, targets) of each row.
SIZES = ((9, 3), (30, 1), (14, 14), (22, 5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=["plain head", "other head"])
def base(request: pytest.FixtureRequest, folder: Path) -> BaseModel:
    settings = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    loaded = load_base_model(settings, folder)
    return replace(loaded, has_plain_head=request.param == "plain head")


def batch_of(sizes: tuple[tuple[int, int], ...] = SIZES) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 400, (count,), generator=generator).tolist())

    rows = [Row(tokens(length), tokens(targets)) for length, targets in sizes]
    return collate(rows, padding=0, device=CPU)


def plain_row_losses(base: BaseModel, batch: Batch) -> Tensor:
    """The same from the whole matrix of logits, through autograd."""
    logits = base.model(input_ids=batch.tokens, use_cache=False).logits.flatten(0, 1)
    chosen = logits.log_softmax(-1)[batch.positions].gather(1, batch.targets[:, None])[:, 0]
    rows = batch.positions // batch.tokens.shape[1]
    return torch.zeros(len(batch.tokens)).index_add(0, rows, -chosen)


def loss_and_gradient(
    base: BaseModel, of: Callable[[AdaptedModel, Batch], Tensor]
) -> tuple[float, Tensor]:
    adapter = start_adapter(base)
    factors = TrainedFactors(adapter, TrainedPart(True, True, 4), torch.float32, CPU)
    with adapted(base, adapter) as model:
        model.put(factors.assemble())
        loss = of(model, batch_of())
        loss.backward()
    return float(loss.detach()), torch.cat([p.grad for p in factors.parameters])


def test_rows_add_up_to_the_batchs_loss_and_each_has_its_loss_alone(base: BaseModel) -> None:
    with adapted(base, start_adapter(base)) as model, torch.no_grad():
        losses = model.row_losses(batch_of())
        assert losses.shape == (len(SIZES),)
        assert float(losses.sum()) == pytest.approx(float(model.loss(batch_of())), rel=1e-6)
        torch.testing.assert_close(losses, plain_row_losses(base, batch_of()))


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_gradient_is_that_of_plain_logits(base: BaseModel, name: str) -> None:
    method = METHODS[name](beta=0.7, gamma=0.3, retain_weight=0.5)
    tokens = torch.tensor([float(targets) for _, targets in SIZES])
    reference = torch.tensor([20.0, 3.0])

    def of(losses: Tensor) -> Tensor:
        return method.loss(losses[:2], tokens[:2], reference, losses[2:], tokens[2:])

    loss, gradient = loss_and_gradient(base, lambda model, batch: of(model.row_losses(batch)))
    expected = loss_and_gradient(base, lambda _, batch: of(plain_row_losses(base, batch)))
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert (gradient - expected[1]).norm() < 1e-4 * expected[1].norm()


@given(
    positions=st.sampled_from([1, 255, 256, 257, 600]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 3),
)
def test_weights_of_positions_scale_their_gradients_across_chunks(
    positions: int, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 16, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(40, 16, generator=generator).to(dtype)
    targets = torch.randint(0, 40, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator)
    losses = cross_entropies(hidden, head, targets)
    (ours,) = torch.autograd.grad(losses, hidden, weights)
    logits = hidden.float() @ head.float().T
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (theirs,) = torch.autograd.grad(expected, hidden, weights)
    # bfloat16 keeps 8 bits of a logit of size 10, and of the gradient.
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    assert (ours - theirs).norm() <= tolerance * theirs.norm()
    summed = summed_cross_entropy(hidden, head, targets).detach()
    torch.testing.assert_close(summed, losses.detach().sum(), rtol=1e-5, atol=1e-5)


def test_the_sum_has_the_gradient_of_equal_weights_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 16, generator=generator).bfloat16().requires_grad_()
    head = torch.randn(40, 16, generator=generator).bfloat16()
    targets = torch.randint(0, 40, (300,), generator=generator)
    (summed,) = torch.autograd.grad(summed_cross_entropy(hidden, head, targets) / 37, hidden)
    losses = cross_entropies(hidden, head, targets)
    (weighted,) = torch.autograd.grad(losses, hidden, torch.full((300,), 1 / 37))
    assert torch.equal(summed, weighted)


@given(
    width=st.integers(1, 4),
    sureness=st.sampled_from([0.0, 5.0, 20.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 20),
)
def test_what_is_all_but_certain_is_never_more_than_certain(
    width: int, sureness: float, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(40, 16, generator=generator).to(dtype)
    # Some candidates repeat, as where few fill up the rows of many.
    candidates = torch.randint(0, 40, (300, width), generator=generator)
    candidates[:, -1] = candidates[:, 0]
    towards = torch.nn.functional.normalize(head[candidates[:, 0]].float())
    hidden = torch.randn(300, 16, generator=generator) + sureness * towards
    hidden = hidden.to(dtype).requires_grad_()
    logits = hidden.float() @ head.float().T
    expected = logits.log_softmax(-1).gather(1, candidates)
    found = target_log_probabilities(hidden, head, candidates)
    assert (found <= 0).all()
    losses = cross_entropies(hidden, head, candidates[:, 0])
    assert (losses >= 0).all()
    # The other tokens' logits, which make up the rest of the sum, are rounded still.
    rest = logits.softmax(-1).scatter(1, candidates, 0.0).sum(-1, keepdim=True)
    rounding = torch.finfo(dtype).eps * logits.abs().amax(-1, keepdim=True)
    allowed = 1e-4 + 2 * rest * rounding
    assert ((found - expected).abs() <= allowed).all()
    if width == 1:
        assert ((losses[:, None] + expected).abs() <= allowed).all()
    if dtype == torch.float32:
        weights = torch.rand(300, width, generator=generator)
        (ours,) = torch.autograd.grad(found, hidden, weights)
        (theirs,) = torch.autograd.grad(expected, hidden, weights)
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6
