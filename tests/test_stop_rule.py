"""What a model would make of a row that it never saw, and what is remembered of one that it did."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearning.stop_rule import Readings, Unseen

#: Mean losses a token and tokens of rows under the base.
ROWS = st.lists(
    st.tuples(st.floats(1.0, 9.0), st.integers(1, 40)), min_size=1, max_size=12, unique=True
)


def readings(rows: list[tuple[float, int]]) -> Readings:
    """Rows of a mean loss a token and so many tokens."""
    return Readings(
        {f"row-{k}": loss * tokens for k, (loss, tokens) in enumerate(rows)},
        {f"row-{k}": tokens for k, (_, tokens) in enumerate(rows)},
    )


def test_the_line_is_that_of_least_squares_with_rows_weighted_by_their_tokens() -> None:
    base, hold_out = (
        readings([(4.0, 10), (6.0, 20), (8.0, 10)]),
        readings([(3, 10), (4, 20), (6, 10)]),
    )
    unseen = Unseen.fitted(hold_out, base)
    # Means 6 and 4.25; 10 (-2)(-1.25) + 10 (2)(1.75) = 60 over 10 * 4 + 10 * 4 = 80.
    assert (unseen.base_mean, unseen.mean, unseen.slope) == (6.0, 4.25, 0.75)
    excesses = unseen.excesses(readings([(3.5, 5)]), readings([(7.0, 5)]))
    assert excesses == {"row-0": pytest.approx(4.25 + 0.75 - 3.5)}


@given(ROWS, st.floats(0.0, 1.0), st.floats(-0.5, 2.0))
def test_a_model_on_a_line_remembers_nothing_of_any_row_on_it(
    rows: list[tuple[float, int]], slope: float, offset: float
) -> None:
    def seen(some: list[tuple[float, int]]) -> Readings:
        return readings([(offset + slope * loss, tokens) for loss, tokens in some])

    unseen = Unseen.fitted(seen(rows), readings(rows))
    assert unseen.mean_excess(seen(rows), readings(rows)) == pytest.approx(0, abs=1e-6)
    if len({loss for loss, _ in rows}) > 1 and max(rows)[0] - min(rows)[0] > 0.1:
        others = [(2.5, 7), (8.5, 3)]
        excesses = unseen.excesses(seen(others), readings(others))
        assert list(excesses.values()) == pytest.approx([0, 0], abs=1e-4)


@given(ROWS, ROWS)
def test_of_the_hold_out_rows_themselves_nothing_is_remembered_on_the_whole(
    rows: list[tuple[float, int]], losses: list[tuple[float, int]]
) -> None:
    count = min(len(rows), len(losses))
    base = readings(rows[:count])
    hold_out = readings([(losses[k][0], rows[k][1]) for k in range(count)])
    unseen = Unseen.fitted(hold_out, base)
    assert 0 <= unseen.slope <= 1
    assert unseen.mean_excess(hold_out, base) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rows", [[(5.0, 10)], [(5.0, 10), (5.0, 3)]])
def test_of_rows_all_as_hard_the_fall_from_the_base_is_compared(
    rows: list[tuple[float, int]],
) -> None:
    fallen = readings([(loss - 0.7, tokens) for loss, tokens in rows])
    unseen = Unseen.fitted(fallen, readings(rows))
    assert unseen.slope == 1.0
    hard, easy = unseen.excesses(
        readings([(8.0, 4), (1.0, 4)]), readings([(9.0, 4), (2.0, 4)])
    ).values()
    assert (hard, easy) == (pytest.approx(0.3), pytest.approx(0.3))


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=6, max_size=30),
    st.integers(1, 5),
    st.floats(2.0, 50.0),
)
def test_what_went_far_beyond_does_not_make_up_for_what_is_known(
    noise: list[float], far: int, distance: float
) -> None:
    """However far it went; and what is known counts in full, however little unseen rows scatter."""
    of_noise = readings([(5.0, 10)] * len(noise))
    unseen = Unseen.fitted(readings([(4.0 + x, 10) for x in noise]), of_noise)
    known = [(3.0 + x, 10) for x in noise]
    alone = unseen.mean_excess(readings(known), of_noise)
    assert alone == pytest.approx(1 - unseen.usual)
    base = readings([(5.0, 10)] * (len(noise) + far))
    beyond = unseen.mean + unseen.most_beyond + distance
    beside = unseen.mean_excess(readings([*known, *([(beyond, 10)] * far)]), base)
    counted = (len(noise) * (alone + unseen.usual) - far * unseen.most_beyond) / (len(noise) + far)
    assert beside == pytest.approx(counted - unseen.usual)


def test_how_far_beyond_still_counts_is_told_by_how_unseen_rows_scatter() -> None:
    base = readings([(4.0, 10), (6.0, 20), (8.0, 10), (6.0, 1)])
    unseen = Unseen.fitted(readings([(3, 10), (4, 20), (6, 10), (9, 1)]), base)
    # Means 6 and 179/41, slope 0.75: the last row lies 9 - 179/41 above the line.
    off = (3 - 179 / 41 + 1.5, 4 - 179 / 41, 6 - 179 / 41 - 1.5, 9 - 179 / 41)
    squares = sum(tokens * x * x for tokens, x in zip((10, 20, 10, 1), off, strict=True))
    assert unseen.most_beyond == pytest.approx(1.345 * (squares / 41 * 4 / 2) ** 0.5)
    assert off[3] > unseen.most_beyond > max(off[:3])
    usual = (
        unseen.most_beyond * -1 - sum(t * x for t, x in zip((10, 20, 10), off[:3], strict=True))
    ) / 41
    assert unseen.usual == pytest.approx(usual)
    assert usual > 0


def answers(losses: list[float]) -> Readings:
    """Rows that are answers among choices, of one token or several."""
    names = [f"row-{k}" for k in range(len(losses))]
    tokens = {name: 1 + k % 3 for k, name in enumerate(names)}
    return Readings(dict(zip(names, losses, strict=True)), tokens, frozenset(names))


@given(st.lists(st.floats(0, 60), min_size=1, max_size=12))
def test_an_answer_among_choices_counts_once_and_by_its_bounded_loss(losses: list[float]) -> None:
    judged = [(1 - math.exp(-0.7 * loss)) / 0.7 for loss in losses]
    assert answers(losses).mean == pytest.approx(sum(judged) / len(judged))


@given(st.integers(1, 8), st.floats(15.0, 60.0))
def test_how_wrong_unseen_answers_are_does_not_make_right_ones_count_as_remembered(
    wrong: int, loss: float
) -> None:
    """Only how many are wrong does: the cross entropy's mean would grow with their loss."""
    count = 32
    base = answers([1.0] * count)
    unseen = Unseen.fitted(answers([0.05] * (count - wrong) + [loss] * wrong), base)
    known = unseen.mean_excess(answers([0.05] * count), base)
    assert known < wrong / count / 0.7
    far = Unseen.fitted(answers([0.05] * (count - wrong) + [100.0] * wrong), base)
    assert known == pytest.approx(far.mean_excess(answers([0.05] * count), base), abs=1e-4)


def test_free_text_is_judged_by_its_tokens_beside_answers() -> None:
    mixed = readings([(2.0, 3)]) | Readings({"answer": 4.0}, {"answer": 2}, frozenset({"answer"}))
    bounded = (1 - math.exp(-2.8)) / 0.7
    assert mixed.mean == pytest.approx((3 * 2.0 + bounded) / 4)


def test_of_answers_counts_what_is_remembered_for_certain() -> None:
    base = answers([1.0] * 8)
    unseen = Unseen.fitted(answers([0.0] * 7 + [60.0]), base)
    # Rows all as hard: the fall from the base. One of eight is wrong, by 1 / 0.7.
    assert unseen.scatter == pytest.approx((7 / 64) ** 0.5 / 0.7 * (8 / 6) ** 0.5)
    two = unseen.mean_excess(answers([0.0, 0.0]), answers([1.0, 1.0]))
    error = unseen.scatter * (1 / 8 + 1 / 2) ** 0.5
    assert two == pytest.approx(1 / 8 / 0.7 - unseen.usual - 1.645 * error)
    assert two < 0


def test_a_wrong_label_learned_by_heart_is_found_among_answers() -> None:
    """Right answers of unseen rows are as sure; that one is only to be had from the record."""
    base = answers([0.3] * 28 + [2.5] * 4)
    unseen = Unseen.fitted(answers([0.05] * 28 + [2.0, 2.5, 3.0, 3.5]), base)
    assert unseen.mean_excess(answers([0.02]), answers([0.3])) < 0
    assert unseen.mean_excess(answers([0.02]), answers([2.5])) > 0.3


@pytest.mark.parametrize("rows", [1, 2])
def test_with_hardly_a_row_to_compare_with_answers_are_no_better_told_apart_than_they_can_scatter(
    rows: int,
) -> None:
    base = answers([1.0] * rows)
    unseen = Unseen.fitted(answers([0.7] * rows), base)
    error = 0.5 / 0.7 * (1 / rows + 1) ** 0.5
    bounded = [(1 - math.exp(-0.7 * loss)) / 0.7 for loss in (0.7, 0.1)]
    known = unseen.mean_excess(answers([0.1]), answers([1.0]))
    assert known == pytest.approx(bounded[0] - bounded[1] - 1.645 * error)
