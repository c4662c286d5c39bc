"""An update loses what points against the unlearning, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm.factors import A_SUFFIX, B_SUFFIX
from unlearning.projection import without_opposition

NAME = "base_model.model.layers.0.q_proj" + B_SUFFIX

# Of a size at which no product of two leaves what float32 rounds well.
values = st.floats(-100, 100, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)


@st.composite
def layers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """An update and an unlearning update of one layer, whose ranks may differ."""
    rows, ranks = draw(st.integers(1, 6)), st.integers(1, 4)
    update = draw(arrays(np.float32, (rows, draw(ranks)), elements=values))
    return update, draw(arrays(np.float32, (rows, draw(ranks)), elements=values))


def projected(update: np.ndarray, unlearning: np.ndarray) -> np.ndarray:
    return without_opposition({NAME: update}, {NAME: unlearning})[NAME]


def along(update: np.ndarray, unlearning: np.ndarray) -> float:
    rank = min(update.shape[1], unlearning.shape[1])
    return float(np.sum(update[:, :rank].astype(np.float64) * unlearning[:, :rank]))


def rounding(update: np.ndarray, unlearning: np.ndarray) -> float:
    """What rounding an update to float32 may change of its inner product."""
    lengths = np.linalg.norm(update.astype(np.float64)) * np.linalg.norm(unlearning)
    return float(lengths) * 2**-23


@given(layers())
def test_what_is_left_opposes_nothing(layer: tuple[np.ndarray, np.ndarray]) -> None:
    update, unlearning = layer
    assert along(projected(update, unlearning), unlearning) >= -rounding(update, unlearning)


@given(layers())
def test_projecting_again_changes_rounding_only(layer: tuple[np.ndarray, np.ndarray]) -> None:
    update, unlearning = layer
    once = projected(update, unlearning)
    scale = float(np.abs(update).max())
    np.testing.assert_allclose(projected(once, unlearning), once, rtol=0, atol=4e-6 * scale)


@given(layers())
def test_an_update_that_does_not_oppose_keeps_its_bits(
    layer: tuple[np.ndarray, np.ndarray],
) -> None:
    update, unlearning = layer
    if along(update, unlearning) < 0:
        update = -update
    assert projected(update, unlearning).tobytes() == update.tobytes()


@given(layers())
def test_no_update_grows(layer: tuple[np.ndarray, np.ndarray]) -> None:
    update, unlearning = layer
    after = np.linalg.norm(projected(update, unlearning).astype(np.float64))
    assert after <= np.linalg.norm(update.astype(np.float64)) * (1 + 1e-6)


@given(layers())
def test_what_is_removed_lies_along_the_unlearning_in_the_columns_both_have(
    layer: tuple[np.ndarray, np.ndarray],
) -> None:
    update, unlearning = layer
    before = update.copy(), unlearning.copy()
    after = projected(update, unlearning)
    rank = min(update.shape[1], unlearning.shape[1])
    assert after.shape == update.shape
    assert after.dtype == np.float32
    assert after[:, rank:].tobytes() == update[:, rank:].tobytes()
    direction = unlearning[:, :rank].astype(np.float64)
    share = min(0.0, along(update, unlearning)) / max(np.sum(direction**2), 1e-30)
    np.testing.assert_allclose(after[:, :rank], update[:, :rank] - share * direction, rtol=1e-6)
    assert (update.tobytes(), unlearning.tobytes()) == tuple(b.tobytes() for b in before)


def test_each_layer_is_judged_by_itself() -> None:
    other = NAME.replace("q_proj", "v_proj")
    update = {
        NAME: np.array([[-3.0, 4.0]], np.float32),
        other: np.array([[3.0, 4.0]], np.float32),
    }
    unlearning = dict.fromkeys(update, np.array([[2.0, 0.0]], np.float32))
    after = without_opposition(update, unlearning)
    assert after[NAME].tolist() == [[0.0, 4.0]]
    assert after[other].tolist() == [[3.0, 4.0]]


def test_a_shared_a_with_orthonormal_rows_makes_it_the_projection_of_the_dense_updates() -> None:
    generator = np.random.default_rng(1)
    update, unlearning = generator.standard_normal((2, 7, 3))
    if along(update, unlearning) > 0:
        update = -update
    a = np.linalg.qr(generator.standard_normal((5, 3)))[0].T
    dense, direction = update @ a, unlearning @ a
    assert np.sum(dense * direction) == pytest.approx(np.sum(update * unlearning))
    expected = dense - np.sum(dense * direction) / np.sum(direction**2) * direction
    ours = projected(update.astype(np.float32), unlearning.astype(np.float32)) @ a
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    skewed = generator.standard_normal((3, 5))
    elsewhere = np.sum((update @ skewed) * (unlearning @ skewed))
    assert elsewhere != pytest.approx(np.sum(update * unlearning), rel=0.1)


def test_an_unlearning_that_moved_nothing_is_opposed_by_nothing() -> None:
    update = np.array([[1.0, -1.0]], np.float32)
    assert projected(update, np.zeros((1, 2), np.float32)).tolist() == update.tolist()


def test_the_smallest_numbers_neither_vanish_nor_overflow() -> None:
    tiny = np.full((2, 2), 1e-44, np.float32)
    large = np.full((2, 2), -1e37, np.float32)
    assert np.abs(projected(large, tiny)).max() <= 1e37 * 2**-50
    assert projected(-tiny, -large).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_updates_that_do_not_fit_are_refused_by_name() -> None:
    b = np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match=rf"first {NAME}: the unlearning update lacks it"):
        without_opposition({NAME: b}, {})
    with pytest.raises(ValueError, match=rf"first {NAME}: the update lacks it"):
        without_opposition({}, {NAME: b})
    with pytest.raises(ValueError, match=r"q_proj.*shape \(3, 2\).*\(4, 2\)"):
        projected(b, np.ones((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"q_proj.*\(3,\)"):
        projected(b[:, 0], b)
    with pytest.raises(ValueError, match="not finite"):
        projected(b, b * np.float32("nan"))
    a = {NAME.replace(B_SUFFIX, A_SUFFIX): b}
    with pytest.raises(ValueError, match=r"lora_A.*factors B alone"):
        without_opposition(a, a)
