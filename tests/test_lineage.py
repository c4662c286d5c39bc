"""What a run goes on from: rounds of earlier tasks, and where each of them is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.lineage import Lineage, Span
from strategies.settings import RunSettings, SettingsError

TASKS = [bytes([number]) * 32 for number in range(1, 6)]


def lineages():
    """Lineages of up to four tasks; the last of a single one may keep nothing."""
    ends = st.lists(st.integers(0, 40), max_size=4, unique=True).map(sorted)
    return ends.map(
        lambda ends: Lineage(tuple(Span(task, end) for task, end in zip(TASKS, ends, strict=False)))
    )


@given(lineages())
def test_a_lineage_reads_back_as_it_was_written(lineage):
    assert Lineage.parse(str(lineage)) == lineage


@given(lineages())
def test_every_kept_round_has_one_place_and_they_follow_one_another(lineage):
    places = [lineage.place_of(number) for number in range(1, lineage.after + 1)]
    assert len(set(places)) == len(places)
    for span in lineage.spans:
        start = lineage.start_of(span.task)
        own = [number for task, number in places if task == span.task]
        assert own == list(range(1, span.last - start + 1))
    for beyond in (0, lineage.after + 1, -1):
        with pytest.raises(ValueError, match="is not kept"):
            lineage.place_of(beyond)


@given(lineages(), st.integers(0, 60))
def test_a_run_that_replaces_another_keeps_just_the_rounds_before(lineage, last):
    task = b"\xaa" * 32
    kept = lineage.keeping(task, last)
    assert kept.after == last
    for number in range(1, last + 1):
        expected = (
            lineage.place_of(number) if number <= lineage.after else (task, number - lineage.after)
        )
        assert kept.place_of(number) == expected
    # The run whose rounds are replaced is the one that holds the first of them, or holds the last
    # kept one where both end together.
    assert kept.replaced in {task, *(span.task for span in lineage.spans)}


@given(lineages(), st.integers(1, 60))
def test_a_round_has_at_least_number_one_in_any_task(lineage, logical):
    assert lineage.own_number(b"\xbb" * 32, logical) == 1
    for span in lineage.spans:
        assert lineage.own_number(span.task, logical) == max(
            1, logical - lineage.start_of(span.task)
        )


@pytest.mark.parametrize(
    "text",
    [
        "0x" + "11" * 32,
        "0x" + "11" * 31 + ":1",
        "11" * 32 + ":1",
        "0x" + "11" * 32 + ":-1",
        "0x" + "AA" * 32 + ":1",
        "0x" + "11" * 32 + ":1,",
        "0x" + "11" * 32 + ":2,0x" + "22" * 32 + ":2",
        "0x" + "11" * 32 + ":2,0x" + "22" * 32 + ":1",
        "0x" + "11" * 32 + ":1,0x" + "11" * 32 + ":2",
    ],
)
def test_what_is_no_lineage_is_refused(text):
    with pytest.raises(ValueError, match="lineage"):
        Lineage.parse(text)


def test_settings_take_a_lineage_with_its_requests_and_fewer_rounds_than_the_run_has():
    good = {"lineage": f"0x{'11' * 32}:2", "requests": f"0x{'22' * 32}", "rounds": 6}
    settings = RunSettings.from_run_config(good)
    assert (settings.own_rounds, settings.logical_round(1)) == (4, 3)
    assert settings.request_ids == [b"\x22" * 32]
    for change in (
        {"requests": ""},
        {"lineage": ""},
        {"rounds": 2},
        {"requests": "0x22"},
        {"lineage": "treaty:2"},
    ):
        with pytest.raises(SettingsError):
            RunSettings.from_run_config({**good, **change})


def test_a_run_by_itself_keeps_nothing():
    settings = RunSettings()
    assert settings.kept_rounds == Lineage()
    assert (settings.own_rounds, settings.logical_round(1)) == (settings.rounds, 1)
    assert Lineage().replaced is None
