"""The same bits everywhere: fixed-order sums, the shared A, and rules on other instruction sets."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file

from llm.factors import adapter_from_arrays, arrays_from_adapter
from strategies.aggregation import (
    RULES,
    STATISTIC_NAMES,
    AggregationRule,
    AggregationSettings,
    AggregationState,
    adapter_distance,
)
from strategies.aggregation.orthonormal import orthonormal_rows
from strategies.aggregation.reproducible import fold_sum, gram_matrix
from strategies.aggregation.settings import RULE_NAMES, SINGLE_FACTOR_RULES
from tests.aggregation_cases import SHAPES, Federation

EVERY_RULE = [
    (rule, robust)
    for rule in RULE_NAMES
    for robust in (STATISTIC_NAMES if rule in SINGLE_FACTOR_RULES else ("none",))
]
moderate = st.floats(-1e6, 1e6, width=32)


def fold_by_hand(values: list[float]) -> float:
    """Fold with Python's own floats, which know no vector instructions."""
    while len(values) > 1:
        half = (len(values) + 1) // 2
        first, second = values[:half], values[half:]
        values = [a + b for a, b in zip(first, second, strict=False)] + first[len(second) :]
    return values[0] if values else 0.0


@given(values=arrays(np.float64, st.integers(0, 200), elements=st.floats(-1e300, 1e300)))
def test_a_folded_sum_has_the_bits_of_one_folded_by_hand(values: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        folded = float(fold_sum(values))
    assert np.float64(folded).tobytes() == np.float64(fold_by_hand(values.tolist())).tobytes()


@given(values=arrays(np.float64, (3, 37), elements=moderate), layout=st.sampled_from("CF"))
def test_a_folded_sum_does_not_depend_on_how_the_array_lies_in_memory(
    values: np.ndarray, layout: str
) -> None:
    laid_out = np.asarray(values, order=layout)
    assert fold_sum(laid_out).tobytes() == np.array([fold_sum(r) for r in values]).tobytes()
    assert (laid_out == values).all()


@settings(deadline=None)
@given(data=st.data(), rows=st.integers(1, 50), columns=st.integers(1, 9))
def test_inner_products_are_those_of_the_padded_steps(
    data: st.DataObject, rows: int, columns: int
) -> None:
    widths = data.draw(st.lists(st.integers(1, columns), min_size=1, max_size=5))
    steps = [{"b": data.draw(arrays(np.float32, (rows, w), elements=moderate))} for w in widths]
    padded = np.zeros((len(steps), rows, columns))
    for k, step in enumerate(steps):
        padded[k, :, : step["b"].shape[1]] = step["b"]
    flat = padded.reshape(len(steps), -1)
    gram = gram_matrix(steps, {"b": (rows, columns)})
    np.testing.assert_allclose(
        gram, flat @ flat.T, rtol=1e-12, atol=1e-12 * np.abs(flat @ flat.T).max()
    )
    assert (gram == gram.T).all()


def test_inner_products_do_not_depend_on_where_blocks_end() -> None:
    rng = np.random.default_rng(0)
    steps = [{"b": rng.integers(-9, 9, (5000, 7)).astype(np.float32)} for _ in range(3)]
    flat = np.array([step["b"].ravel() for step in steps]).astype(np.int64)
    assert (gram_matrix(steps, {"b": (5000, 7)}) == flat @ flat.T).all()


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    label=st.text(max_size=9),
    width=st.integers(1, 40),
    data=st.data(),
)
def test_rows_are_orthonormal_whatever_rank_a_width_allows(
    seed: int, label: str, width: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, width))
    rows = orthonormal_rows(seed, (label,), rank, width).astype(np.float64)
    np.testing.assert_allclose(rows @ rows.T, np.eye(rank), atol=5e-7)


def test_rows_depend_on_seed_and_labels_and_on_how_labels_are_divided() -> None:
    drawn = [
        orthonormal_rows(seed, labels, 4, 64).tobytes()
        for seed, labels in [(0, ("ab",)), (1, ("ab",)), (0, ("a", "b")), (0, ("b", "a")), (0, ())]
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_smaller_ranks_rows_are_the_larger_ones_first() -> None:
    larger = orthonormal_rows(5, ("q",), 16, 576)
    assert orthonormal_rows(5, ("q",), 4, 576).tobytes() == larger[:4].tobytes()


def rows_by_hand(seed: int, label: str, rank: int, width: int) -> list[list[float]]:
    """Draw the rows again in scalar Python, from the description alone."""
    prefix = b"foedus lora down-projection 1" + seed.to_bytes(8, "little")
    prefix += len(label.encode()).to_bytes(4, "little") + label.encode()
    rows: list[list[float]] = []
    draw = 0
    while len(rows) < rank:
        stream = hashlib.shake_256(prefix + draw.to_bytes(8, "little")).digest((width + 7) // 8)
        row = [-1.0 if stream[i // 8] >> (i % 8) & 1 else 1.0 for i in range(width)]
        draw += 1
        for _ in range(2):
            dots = [fold_by_hand([a * b for a, b in zip(r, row, strict=True)]) for r in rows]
            row = [
                x - fold_by_hand([d * r[i] for d, r in zip(dots, rows, strict=True)])
                for i, x in enumerate(row)
            ]
        squared = fold_by_hand([x * x for x in row])
        if squared >= 1 / 16:
            rows.append([x / squared**0.5 for x in row])
    return rows


@pytest.mark.parametrize(("rank", "width"), [(1, 1), (3, 3), (4, 5), (16, 96), (5, 257)])
def test_the_shared_a_has_the_bits_of_one_drawn_by_hand(rank: int, width: int) -> None:
    by_hand = np.array(rows_by_hand(9, "layers.0.q_proj", rank, width))
    drawn = orthonormal_rows(9, ("layers.0.q_proj",), rank, width)
    assert drawn.tobytes() == by_hand.astype(np.float32).tobytes()


def test_the_shared_a_never_changes_between_versions() -> None:
    drawn = orthonormal_rows(2024, ("base_model.model.model.layers.0.self_attn.q_proj",), 16, 576)
    digest = hashlib.sha256(drawn.astype("<f4").tobytes()).hexdigest()
    assert digest == "be3efc4b347a152d7336a3b2ba4744263a6cbbd7f3b53849febab4fc7d51d3a8"


def test_more_orthonormal_rows_than_a_width_has_are_refused() -> None:
    with pytest.raises(ValueError, match=r"layer: 4 input features have no 5 orthonormal rows"):
        orthonormal_rows(0, ("layer",), 5, 4)


# --- The rules on other instruction sets --------------------------------------------------------


def after_two_rounds(name: str, robust: str) -> tuple[AggregationRule, AggregationState]:
    configuration = AggregationSettings(rank=5, alpha=8.0, seed=1, robust=robust)
    federation = Federation(
        configuration, {f"o{k}": (1 + k % 5, 3 + k, None) for k in range(6)}, seed=2, rounds=2
    )
    rule = RULES[name](configuration, SHAPES)
    state = rule.initial_state()
    for round in (1, 2):
        state = rule.aggregate(state, round, federation.contributions(rule, round)).state
    return rule, state


def digests() -> dict[str, str]:
    """Digest of every rule's state and adapter after two rounds."""
    found = {}
    for name, robust in EVERY_RULE:
        rule, state = after_two_rounds(name, robust)
        digest = hashlib.sha256()
        for key, array in (state.to_arrays() | arrays_from_adapter(rule.adapter(state))).items():
            digest.update(key.encode() + array.tobytes())
        found[f"{name} {robust}"] = digest.hexdigest()
    return found


def test_each_rule_keeps_its_tolerance_on_lesser_instruction_sets(tmp_path: Path) -> None:
    dispatched = np._core._multiarray_umath.__cpu_dispatch__
    lesser = {
        **os.environ,
        "NPY_DISABLE_CPU_FEATURES": " ".join(dispatched),
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_NUM_THREADS": "1",
    }
    module = "tests.test_aggregation_reproducible"
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, tmp_path / "adapter.safetensors"],
        env=lesser,
        capture_output=True,
        text=True,
        check=True,
    )
    here, there = digests(), json.loads(answer.stdout)
    exact = [f"{name} {robust}" for name, robust in EVERY_RULE if RULES[name].tolerance == 0.0]
    assert len(exact) == 12
    assert {key: here[key] for key in exact} == {key: there[key] for key in exact}
    rule, state = after_two_rounds("accumulators", "none")
    theirs = adapter_from_arrays(load_file(tmp_path / "adapter.safetensors"))
    assert adapter_distance(theirs, rule.adapter(state)) < rule.tolerance


def test_a_rule_with_a_tolerance_keeps_it_when_its_factors_are_worked_out_in_another_order() -> (
    None
):
    # The same update in another basis: LAPACK goes another way to the same product.
    configuration = AggregationSettings(rank=5, alpha=8.0, seed=1)
    federation = Federation(configuration, {f"o{k}": (5, 3 + k, None) for k in range(4)}, 2, 3)
    rule = RULES["accumulators"](configuration, SHAPES)
    first = second = rule.initial_state()
    for round in (1, 2, 3):
        contributions = federation.contributions(rule, round)
        turned = [
            type(c)(
                c.organization,
                c.num_examples,
                {
                    n: np.ascontiguousarray(a[::-1] if "lora_A" in n else a[:, ::-1])
                    for n, a in c.arrays.items()
                },
            )
            for c in contributions
        ]
        first = rule.aggregate(first, round, contributions).state
        second = rule.aggregate(second, round, turned).state
    assert adapter_distance(rule.adapter(first), rule.adapter(second)) < rule.tolerance


if __name__ == "__main__":
    # The other process of the test above.
    rule, state = after_two_rounds("accumulators", "none")
    save_file(arrays_from_adapter(rule.adapter(state)), sys.argv[1])
    sys.stdout.write(json.dumps(digests()))
