"""Arrays and headers of a message: what was agreed comes through, everything else is refused."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies import protocol
from strategies.protocol import ProtocolError, RoundReceipt

BITS = hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
HASH = st.binary(min_size=32, max_size=32)
RECEIPTS = st.builds(
    RoundReceipt,
    round=st.integers(0, 2**53 - 1),
    index=st.integers(0, 2**32),
    verdict=st.integers(0, 65535),
    digest=HASH,
    proof=st.lists(HASH, max_size=5).map(tuple),
    transaction=st.text(max_size=70),
    signature=st.binary(min_size=65, max_size=65),
)


def serialized(ndarray):
    return Array(ndarray).data


def header_and_data(data):
    length = 10 + int.from_bytes(data[8:10], "little")
    return data[:length], data[length:]


def with_header(text, data, *, version=b"\x01\x00", length=None):
    """An array's bytes under a header of our own choosing."""
    body = text + b" " * (-(len(text) + 11) % 64) + b"\n"
    size = (len(body) if length is None else length).to_bytes(2, "little")
    return b"\x93NUMPY" + version + size + body + data


def corruptions(array):
    """What a hostile sender could make of a valid array; each one must be refused."""
    data, shape = array.data, array.shape
    head, values = header_and_data(data)
    text = head[10:]
    exact = np.load(io.BytesIO(data))
    fortran = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        fortran, {"descr": "<f4", "fortran_order": True, "shape": shape}
    )
    objects = io.BytesIO()
    np.save(objects, np.array([None] * max(1, exact.size // 4), object), allow_pickle=True)
    second = io.BytesIO()
    np.lib.format.write_array(second, exact, version=(2, 0))
    bad = {
        "big-endian": serialized(exact.astype(">f4")),
        "integers": serialized(exact.view(np.int32)),
        "float64": serialized(exact.astype(np.float64)),
        "float16": serialized(exact.astype(np.float16)),
        "complex": serialized(exact.astype(np.complex64)),
        "flat": serialized(exact.reshape(-1)),
        "another axis": serialized(exact[None]),
        "a row more": serialized(np.vstack([exact, exact[:1]])),
        "truncated": data[:-1],
        "half": data[: len(data) // 2],
        "header alone": head,
        "nothing": b"",
        "extended": data + b"\0",
        "twice": data + data,
        "extended by a header's worth": data + bytes(500),
        "shifted": with_header(text.strip(), values[1:] + b"\0", length=0),
        "fortran order": fortran.getvalue() + values,
        "pickled objects": objects.getvalue(),
        "a pickle": pickle.dumps(exact),
        "format 2": second.getvalue(),
        "format 9": data[:6] + b"\x09\x00" + data[8:],
        "no magic": b"\x00" + data[1:],
        "no length": data[:8] + b"\0\0" + data[10:],
        "huge length": data[:8] + b"\xff\xff" + data[10:],
        "huge shape": data.replace(str(shape).encode(), b"(99999999999, 99999999999)", 1),
        "negative shape": data.replace(b"(", b"(-", 1),
        "unhashable": with_header(b"{[]: 1}", values),
        "no dictionary": with_header(b"1", values),
        "empty descr": with_header(
            f"{{'descr': (), 'fortran_order': False, 'shape': {shape}, }}".encode(),
            values,
        ),
        "no text": with_header(b"\xff\xfe\0", values),
        "open string": with_header(b'{"""', values),
        "deep": with_header(b"-" * 900 + b"1", values),
        "open brackets": with_header(b"(" * 900, values),
        "a call": with_header(b"__import__('os').getcwd()", values),
    }
    if shape[0] != shape[1]:
        bad["transposed"] = serialized(np.ascontiguousarray(exact.T))
    return {
        **{name: Array("float32", shape, "numpy.ndarray", bytes(b)) for name, b in bad.items()},
        "another serialization": Array("float32", shape, "torch.Tensor", data),
        "no serialization": Array("float32", shape, "", data),
    }


@given(BITS)
def test_a_float32_array_comes_through_with_every_bit_even_of_a_nan(bits):
    values = bits.view(np.float32)
    decoded = protocol.decode_array(Array(values), values.shape)
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    assert decoded.tobytes() == values.tobytes()


@given(BITS)
def test_a_transposed_view_travels_as_what_it_shows(bits):
    view = bits.view(np.float32).T
    record = protocol.array_record({"a": view})
    assert protocol.decode_array(record["a"], view.shape).tobytes() == view.tobytes()


def test_arrays_travel_in_sorted_order_and_not_as_pickles():
    record = protocol.array_record({n: np.ones((1, 2), np.float32) for n in ("b", "a", "c")})
    assert isinstance(record, ArrayRecord)
    assert list(record) == ["a", "b", "c"]
    assert {array.stype for array in record.values()} == {"numpy.ndarray"}


@given(BITS, st.data())
def test_every_corruption_of_a_valid_array_is_refused_in_one_line(bits, data):
    valid = Array(bits.view(np.float32))
    derived = corruptions(valid)
    name = data.draw(st.sampled_from(sorted(derived)))
    if derived[name].data == valid.data and derived[name].stype == valid.stype:
        return
    with pytest.raises(ProtocolError) as caught:
        protocol.decode_array(derived[name], valid.shape)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


@given(BITS, st.data())
def test_any_changed_byte_of_the_header_is_refused(bits, data):
    valid = Array(bits.view(np.float32))
    head, _ = header_and_data(valid.data)
    altered = bytearray(valid.data)
    place = data.draw(st.integers(0, len(head) - 1))
    altered[place] ^= data.draw(st.integers(1, 255))
    padding = head[place : place + 1] in b" \n" and altered[place : place + 1] in b" \n"
    array = Array("float32", valid.shape, "numpy.ndarray", bytes(altered))
    if padding and place > head.rindex(b"}"):
        assert protocol.decode_array(array, valid.shape).tobytes() == bits.tobytes()
        return
    with pytest.raises(ProtocolError):
        protocol.decode_array(array, valid.shape)


@given(BITS, st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_protocol_error(bits, noise):
    valid = Array(bits.view(np.float32))
    _, values = header_and_data(valid.data)
    for data in (noise, noise + values, with_header(noise, values)):
        with pytest.raises(ProtocolError):
            protocol.decode_array(Array("float32", (1,), "numpy.ndarray", data), valid.shape)


def test_a_header_that_promises_terabytes_costs_no_memory():
    array = Array(
        "float32",
        (2**40, 4),
        "numpy.ndarray",
        with_header(
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }", b""
        ),
    )
    tracemalloc.start()
    try:
        for shape in ((2, 2), (2**40, 4)):
            with pytest.raises(ProtocolError):
                protocol.decode_array(array, shape)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@given(RECEIPTS)
def test_a_receipt_comes_back_from_a_messages_header(receipt):
    header = protocol.header_record({"organization": "shop", **receipt.to_header()})
    assert RoundReceipt.from_header(header) == receipt


def test_a_message_without_a_receipt_has_none():
    assert RoundReceipt.from_header(protocol.header_record({"round": 1})) is None


WRONG_ENTRIES = {
    "receipt-round": [-1, 2**53, True, 1.0, "1", [1]],
    "receipt-index": [-1, True, "0"],
    "receipt-verdict": [-1, False, "ACCEPTED"],
    "receipt-digest": [b"", bytes(31), bytes(33), "0" * 32, 0],
    "receipt-proof": [[bytes(31)], [bytes(32), bytes(33)], ["x"], bytes(32), 1, [1]],
    "receipt-transaction": [b"x", 1, ["x"]],
    "receipt-signature": [b"", bytes(64), bytes(66), "0" * 65, 0],
}


@given(RECEIPTS, st.data())
def test_every_entry_of_a_receipt_is_held_to_its_type(receipt, data):
    key = data.draw(st.sampled_from(sorted(WRONG_ENTRIES)))
    value = data.draw(st.sampled_from(WRONG_ENTRIES[key]))
    header = protocol.header_record({**receipt.to_header(), key: value})
    with pytest.raises(ProtocolError, match=key):
        RoundReceipt.from_header(header)


@given(RECEIPTS, st.sampled_from(sorted(set(WRONG_ENTRIES) - {"receipt-round", "receipt-proof"})))
def test_an_entry_of_a_receipt_that_is_missing_is_named(receipt, key):
    entries = receipt.to_header()
    del entries[key]
    with pytest.raises(ProtocolError, match=f"{key} is missing"):
        RoundReceipt.from_header(protocol.header_record(entries))
