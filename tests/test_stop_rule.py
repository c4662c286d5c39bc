"""What a model would make of a row that it never saw, and what is remembered of one that it did."""

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
    st.integers(0, 5),
    st.floats(2.0, 50.0),
)
def test_what_went_far_beyond_does_not_make_up_for_what_is_known(
    noise: list[float], far: int, distance: float
) -> None:
    """However far it went: records all the same but for that are as much remembered."""
    base = readings([(5.0, 10)] * len(noise))
    unseen = Unseen.fitted(readings([(4.0 + x, 10) for x in noise]), base)
    known = [(3.0 + x, 10) for x in noise]

    def with_some_at(loss: float) -> float:
        return unseen.mean_excess(readings([*known[:-far], *([(loss, 10)] * far)]), base)

    if far:
        assert with_some_at(4.0 + distance) == pytest.approx(with_some_at(4.0 + 2 * distance))
    # And what is known counts in full, whatever little unseen rows scatter.
    worse = readings([(loss - 1, tokens) for loss, tokens in known])
    more = unseen.mean_excess(worse, base) - unseen.mean_excess(readings(known), base)
    assert more == pytest.approx(1, abs=0.5)


def test_how_much_counts_of_what_went_beyond_is_told_by_how_far_unseen_rows_lie() -> None:
    base = readings([(4.0, 10), (6.0, 20), (8.0, 10)])
    unseen = Unseen.fitted(readings([(3, 10), (4, 20), (6, 10)]), base)
    # Residuals 0.25, -0.25, 0.25 about the line; variance 0.0625 * 3 / (3 - 2).
    assert unseen.most_beyond == pytest.approx(1.345 * 0.1875**0.5)
    assert unseen.usual == pytest.approx(0)
    two = readings([(4.25 - 0.3, 10), (4.25 + 9, 30)])
    at_the_mean = readings([(6.0, 10), (6.0, 30)])
    assert unseen.mean_excess(two, at_the_mean) == pytest.approx(
        (10 * 0.3 - 30 * 1.345 * 0.1875**0.5) / 40
    )
