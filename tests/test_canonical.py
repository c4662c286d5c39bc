"""Canonical hashes: one value, one hash; two values, two hashes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blockchain.canonical import canonical_float, canonical_json, hash_arrays, hash_json

dtypes = st.sampled_from(["<f4", "<f8", "<f2", "<i8", "<i4", "<u2", "|i1", "|b1"])
arrays = dtypes.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
named = st.dictionaries(st.text(max_size=8), arrays, max_size=4)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(named)
def test_the_hash_does_not_depend_on_the_order_of_insertion(arrays):
    assert hash_arrays(dict(reversed(arrays.items()))) == hash_arrays(arrays)


@given(named)
def test_the_hash_does_not_depend_on_memory_order_or_byte_order(arrays):
    other = {n: np.array(a, a.dtype.newbyteorder(">"), order="F") for n, a in arrays.items()}
    assert hash_arrays(other) == hash_arrays(arrays)


@given(arrays)
def test_a_strided_view_hashes_as_its_copy(array):
    view = np.stack([array, array], axis=-1)[..., 0]
    assert hash_arrays({"a": view}) == hash_arrays({"a": view.copy()})


@given(arrays.filter(lambda a: a.size > 0), st.data())
def test_one_flipped_bit_changes_the_hash(array, data):
    raw = bytearray(array.tobytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    flipped = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    assert hash_arrays({"a": flipped}) != hash_arrays({"a": array})


@given(arrays)
def test_the_same_bytes_under_another_name_shape_or_type_hash_differently(array):
    original = hash_arrays({"a": array})
    assert hash_arrays({"b": array}) != original
    assert hash_arrays({"a": array[np.newaxis]}) != original
    assert hash_arrays({}) != original
    if array.dtype.kind == "f":
        assert hash_arrays({"a": array.view(f"<i{array.dtype.itemsize}")}) != original


def test_bytes_moved_between_neighbouring_arrays_change_the_hash():
    def split(at):
        values = np.arange(6, dtype=np.int8)
        return {"a": values[:at], "b": values[at:]}

    assert len({hash_arrays(split(at)) for at in range(7)}) == 7


def test_a_minus_zero_is_not_a_zero():
    assert hash_arrays({"a": np.array([-0.0])}) != hash_arrays({"a": np.array([0.0])})


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({}, "588abe15d287cdae34796e2ed0b4cb1f5225f8e26ecaf864abf87b11f0e1430c"),
        (
            {
                "layer.lora_B.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
                "layer.lora_A.weight": np.array([[1.5, -2.0]], dtype=np.float64),
                "round": np.array(3, dtype=np.int64),
            },
            "a31c18e63f8434ecb7ff78c299a7d2e3436c082e1eb5f3e89dd07cbed6df62d2",
        ),
    ],
)
def test_array_hashes_are_pinned(arrays, expected):
    assert hash_arrays(arrays).hex() == expected


@pytest.mark.parametrize(
    "value",
    [
        np.array(["text"]),
        np.array([object()]),
        np.array([1j]),
        np.zeros(2, dtype=[("x", "<f4")]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype=np.longdouble),
        [1.0, 2.0],
        None,
    ],
)
def test_what_is_no_portable_number_array_is_refused(value):
    with pytest.raises(TypeError, match="array 'w'"):
        hash_arrays({"w": value})


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="expected str"):
        hash_arrays({1: np.zeros(1)})


@given(documents)
def test_canonical_json_reads_back_as_what_was_written(document):
    assert json.loads(canonical_json(document)) == document


@given(documents, documents)
def test_two_documents_share_an_encoding_only_if_they_are_the_same(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical_json(one) == canonical_json(other)) == same


@given(st.dictionaries(st.text(), st.integers(0, 9), min_size=2))
def test_canonical_json_does_not_depend_on_the_order_of_insertion(document):
    assert canonical_json(dict(reversed(document.items()))) == canonical_json(document)


def test_keys_are_sorted_by_utf16_units_as_in_rfc_8785():
    # The RFC's own example, section 3.2.3.
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = json.loads(canonical_json(dict.fromkeys(keys, 0)), object_pairs_hook=list)
    assert [key for key, _ in written] == [
        "\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip


def test_text_is_escaped_as_in_rfc_8785():
    # The RFC's own example, section 3.2.2.
    text = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"
    assert canonical_json(text).decode() == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'


def test_document_hashes_are_pinned():
    document = {"round": 3, "organizations": ["cinema", None, True], "é": {"b": -1, "a": ""}}
    assert (
        hash_json(document).hex()
        == "d79c562cd5fa4dd0278cfb16dc829282df403383297e6a6ea57e9782d07e9cb5"
    )


@pytest.mark.parametrize("value", [1.0, float("nan"), b"bytes", (1, 2), {1: "a"}, np.int64(3)])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"key": v}])
def test_values_without_one_canonical_form_are_refused(value, wrap):
    with pytest.raises(TypeError, match="document"):
        canonical_json(wrap(value))


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", {"\udfff": 1}])
def test_numbers_too_large_and_half_surrogates_are_refused(value):
    with pytest.raises(ValueError, match="document"):
        canonical_json(value)


def test_nesting_without_end_is_refused():
    document: list = []
    for _ in range(100_000):
        document = [document]
    with pytest.raises(ValueError, match="nested deeper than 64"):
        canonical_json(document)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_so_that_it_reads_back_with_the_same_bits(value):
    assert (
        np.float64(float.fromhex(canonical_float(value))).tobytes() == np.float64(value).tobytes()
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_float_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        canonical_float(value)
