"""Encoding and batches: nothing lost, nothing twice, little padding, and no wrong target."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.tokenization import (
    EncodedRecord,
    Row,
    by_length,
    collate,
    completion_row,
    within_tokens,
)

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=60)


def encoded(sizes: list[int]) -> list[EncodedRecord]:
    return [
        EncodedRecord(f"record-{index}", tuple(range(size)), (7,), (), -1, False)
        for index, size in enumerate(sizes)
    ]


@given(sizes=lengths, batch_size=st.integers(1, 20), seed=st.integers(0, 9))
def test_every_record_is_in_exactly_one_batch_of_neighbouring_lengths(
    sizes: list[int], batch_size: int, seed: int
) -> None:
    records = encoded(sizes)
    batches = by_length(records, batch_size=batch_size, seed=seed, epoch=0)
    assert sorted(r.id for batch in batches for r in batch) == sorted(r.id for r in records)
    assert sorted(map(len, batches), reverse=True)[:-1] == [batch_size] * (len(batches) - 1)
    spans = sorted((min(r.tokens for r in b), max(r.tokens for r in b)) for b in batches)
    assert all(this[1] <= following[0] for this, following in pairwise(spans))


@given(sizes=lengths, seed=st.integers(0, 9), shuffle=st.randoms())
def test_batches_do_not_depend_on_the_order_given(sizes: list[int], seed: int, shuffle) -> None:
    records = encoded(sizes)
    mixed = records.copy()
    shuffle.shuffle(mixed)
    assert by_length(records, batch_size=4, seed=seed, epoch=1) == by_length(
        mixed, batch_size=4, seed=seed, epoch=1
    )


def test_another_epoch_or_seed_gives_another_order() -> None:
    records = encoded([10] * 40)
    orders = {
        tuple(r.id for b in by_length(records, batch_size=4, seed=s, epoch=e) for r in b)
        for s in (1, 2)
        for e in (0, 1)
    }
    assert len(orders) == 4


@given(sizes=lengths, max_rows=st.integers(1, 10), max_tokens=st.integers(1, 100))
def test_pieces_hold_all_rows_in_order_and_keep_both_limits(
    sizes: list[int], max_rows: int, max_tokens: int
) -> None:
    rows = [Row(tuple(range(size)), (1,)) for size in sizes]
    pieces = list(within_tokens(rows, max_rows=max_rows, max_tokens=max_tokens))
    assert [row for piece in pieces for row in piece] == rows
    for piece in pieces:
        longest = max(len(row.tokens) for row in piece)
        assert len(piece) == 1 or (len(piece) <= max_rows and len(piece) * longest <= max_tokens)


@given(
    pairs=st.lists(
        st.tuples(
            st.lists(st.integers(1, 9), min_size=1, max_size=8),
            st.lists(st.integers(10, 19), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_every_completion_token_is_predicted_at_the_token_before_it(
    pairs: list[tuple[list[int], list[int]]],
) -> None:
    rows = [completion_row(tuple(prompt), tuple(completion)) for prompt, completion in pairs]
    batch = collate(rows, padding=0, device=torch.device("cpu"))
    assert batch.targets.tolist() == [token for _, completion in pairs for token in completion]
    assert batch.real_tokens == sum(len(p) + len(c) - 1 for p, c in pairs)
    seen = batch.tokens.flatten()[batch.positions].tolist()
    before = [
        token
        for prompt, completion in pairs
        for token in (prompt + completion)[len(prompt) - 1 : -1]
    ]
    assert seen == before
    assert int((batch.tokens != 0).sum()) == batch.real_tokens


@pytest.mark.parametrize("longest", [1, 5])
def test_rows_of_one_length_need_no_padding(longest: int) -> None:
    rows = [Row(tuple(range(1, longest + 1)), (3,))] * 4
    batch = collate(rows, padding=0, device=torch.device("cpu"))
    assert batch.tokens.numel() == batch.real_tokens
