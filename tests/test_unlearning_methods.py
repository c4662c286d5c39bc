"""The losses against numbers worked out by hand, and what each one pushes."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unlearning.forgetting_settings import ForgettingSettings
from unlearning.methods import (
    METHODS,
    GradientAscent,
    GradientDifference,
    Npo,
    SimNpo,
    UnlearningMethod,
    method_named,
)

#: Negative log-likelihoods, nats, of completions of so many tokens.
FORGET, FORGET_TOKENS, REFERENCE = (6.0, 1.0), (3.0, 2.0), (2.0, 4.0)
RETAIN, RETAIN_TOKENS = (5.0, 7.0, 3.0), (4.0, 5.0, 1.0)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def loss_and_gradients(
    method: UnlearningMethod, forget: tuple[float, ...] = FORGET
) -> tuple[float, list[float], list[float]]:
    """The loss, and its gradient in the forget rows' and the retain rows' losses."""
    forgotten = torch.tensor(forget, dtype=torch.float64, requires_grad=True)
    kept = torch.tensor(RETAIN, dtype=torch.float64, requires_grad=True)
    counts, reference, kept_counts = map(torch.tensor, (FORGET_TOKENS, REFERENCE, RETAIN_TOKENS))
    loss = method.loss(forgotten, counts, reference, kept, kept_counts)
    gradients = torch.autograd.grad(loss, (forgotten, kept), allow_unused=True)
    of_forget, of_retain = (
        [0.0] * len(x) if g is None else g.tolist()
        for g, x in zip(gradients, (forgotten, kept), strict=True)
    )
    return float(loss.detach()), of_forget, of_retain


def test_npo_is_the_preference_loss_and_half_the_retain_loss_a_token() -> None:
    loss, forget, retain = loss_and_gradients(Npo(beta=0.5, retain_weight=0.5))
    # log pi - log pi_ref is 2 - 6 = -4 and 4 - 1 = 3.
    rows = [4 * math.log(1 + math.exp(0.5 * ratio)) for ratio in (-4, 3)]
    assert rows == pytest.approx([0.507712, 6.805654], abs=1e-6)
    assert loss == pytest.approx(sum(rows) / 5 + 0.5 * 15 / 10)
    # The weight of each row's ascent: 2 pi^beta / (pi^beta + pi_ref^beta), over five tokens.
    assert forget == pytest.approx([-2 * sigmoid(0.5 * ratio) / 5 for ratio in (-4, 3)])
    assert retain == pytest.approx([0.05] * 3)


def test_npo_is_minus_two_over_beta_log_sigmoid_of_minus_beta_log_ratio() -> None:
    loss, _, _ = loss_and_gradients(Npo(beta=0.5, retain_weight=0))
    written = [-(2 / 0.5) * math.log(sigmoid(-0.5 * ratio)) for ratio in (-4, 3)]
    assert loss == pytest.approx(sum(written) / 5)


def test_npo_starts_as_ascent_of_the_rows_and_lets_go_of_what_is_forgotten() -> None:
    method = Npo(beta=0.1)
    at_start = loss_and_gradients(method, REFERENCE)[1]
    assert at_start == pytest.approx(loss_and_gradients(GradientAscent(), REFERENCE)[1])
    forgotten = loss_and_gradients(method, (102.0, 4.0))[1]
    assert abs(forgotten[0]) < 1e-4
    assert forgotten[1] == at_start[1]


def test_simnpo_is_the_same_by_the_token_with_a_margin_and_no_reference() -> None:
    loss, forget, retain = loss_and_gradients(SimNpo(beta=2.0, gamma=0.5, retain_weight=2.0))
    # (beta / |y|) log pi + gamma is -2 * 6 / 3 + 0.5 = -3.5 and -2 * 1 / 2 + 0.5 = -0.5.
    rows = [-(2 / 2.0) * math.log(sigmoid(-x)) for x in (-3.5, -0.5)]
    assert rows == pytest.approx([0.029750, 0.474077], abs=1e-6)
    assert loss == pytest.approx(sum(rows) / 2 + 2.0 * 15 / 10)
    assert forget == pytest.approx([-sigmoid(-3.5) / 3, -sigmoid(-0.5) / 2])
    assert retain == pytest.approx([0.2] * 3)


def test_gradient_ascent_is_minus_the_loss_a_token() -> None:
    loss, forget, retain = loss_and_gradients(GradientAscent())
    assert loss == pytest.approx(-7 / 5)
    assert forget == pytest.approx([-0.2, -0.2])
    assert retain == [0.0] * 3


def test_gradient_difference_adds_the_weighted_retain_loss_a_token() -> None:
    loss, forget, retain = loss_and_gradients(GradientDifference(retain_weight=3.0))
    assert loss == pytest.approx(3 * 15 / 10 - 7 / 5)
    assert forget == pytest.approx([-0.2, -0.2])
    assert retain == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("name", METHODS)
def test_rows_to_keep_of_no_weight_are_not_looked_at(name: str) -> None:
    method = METHODS[name](beta=1.0, retain_weight=0.0)
    assert not method.needs_retain
    rows = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([1.5])
    assert math.isfinite(method.loss(*rows, torch.empty(0), torch.empty(0)))


def test_what_each_method_needs() -> None:
    assert {name for name, m in METHODS.items() if m.needs_reference} == {"npo"}
    assert {n for n, m in METHODS.items() if not m().needs_retain} == {"grad-ascent"}


losses = st.lists(st.floats(0, 500), min_size=1, max_size=6)


@pytest.mark.parametrize("name", METHODS)
@given(values=losses, others=st.floats(0, 500), beta=st.floats(0.01, 5), row=st.integers(0, 5))
def test_a_rows_gradient_is_upwards_and_depends_on_no_other_rows_loss(
    name: str, values: list[float], others: float, beta: float, row: int
) -> None:
    method = METHODS[name](beta=beta)
    row %= len(values)

    def gradient(of: list[float]) -> Tensor:
        forget = torch.tensor(of, dtype=torch.float64, requires_grad=True)
        counts, reference = torch.full((len(of),), 4.0), torch.full((len(of),), 10.0)
        loss = method.loss(forget, counts, reference, torch.tensor([1.0]), torch.tensor([2.0]))
        return torch.autograd.grad(loss, forget)[0]

    ours = gradient(values)
    assert bool((ours <= 0).all())
    replaced = [value if index == row else others for index, value in enumerate(values)]
    assert gradient(replaced)[row] == ours[row]


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    assert method_named("npo") is Npo
    with pytest.raises(ValueError, match=r"'nop'.*npo, grad-diff, simnpo, grad-ascent"):
        method_named("nop")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_named_in_the_settings(name: str) -> None:
    assert ForgettingSettings(method=name).method == name
    with pytest.raises(ValueError, match="npo"):
        ForgettingSettings(method=f"{name}-2")


@pytest.mark.parametrize(
    "field",
    [
        {"learning_rate": 0},
        {"epochs": 0},
        {"checked_records": 0},
        {"beta": 0},
        {"retain_weight": -1},
    ],
)
def test_impossible_settings_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        ForgettingSettings(**field)
    with pytest.raises(ValueError, match=next(iter(field))):
        replace(ForgettingSettings(), **field)
