"""Replies: every corruption of a valid one gets its verdict, and none stops the coordinator."""

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blockchain.canonical import hash_arrays
from strategies import protocol
from strategies.replies import Invitation, Verdict, check_reply, finite_metrics
from strategies.reply_errors import error_of
from tests.flower_messages import invitation_message, reply_to

pytestmark = pytest.mark.usefixtures("flower_task")

NODE = 17
#: The fixture that these properties use is the same for every example.
FEW = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHAPES = {"layer.lora_A.weight": (2, 3), "layer.lora_B.weight": (4, 2)}
INVITATION = Invitation("shop", NODE, 3, SHAPES, max_examples=32)
METRICS = {"tokens": 120, "last-loss": 0.5}
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
UPDATES = st.fixed_dictionaries(
    {name: hnp.arrays(np.float32, shape, elements=FINITE) for name, shape in SHAPES.items()}
)


def header_of(arrays, **changes):
    entries = {
        "organization": "shop",
        "round": 3,
        "num-examples": 32,
        "update-hash": hash_arrays(arrays),
        **{key.replace("_", "-"): value for key, value in changes.items()},
    }
    return ConfigRecord({key: value for key, value in entries.items() if value is not None})


def content_of(arrays, *, header=None, update=None, metrics=None):
    return RecordDict(
        {
            protocol.UPDATE: update or protocol.array_record(arrays),
            protocol.HEADER: header or header_of(arrays),
            protocol.METRICS: metrics or MetricRecord(dict(METRICS)),
        }
    )


def checked(content, *, node=NODE, invitation=INVITATION):
    return check_reply(reply_to(invitation_message(NODE), content, node=node), invitation)


def without(content, key):
    return RecordDict({name: record for name, record in content.items() if name != key})


def with_arrays(arrays):
    """A reply whose hash is honest about arrays that are not what was asked for."""
    return content_of(arrays, header=header_of(arrays))


def not_finite(arrays, value):
    altered = {name: array.copy() for name, array in arrays.items()}
    altered["layer.lora_B.weight"][3, 1] = value
    return with_arrays(altered)


def replaced(arrays, array):
    update = protocol.array_record(arrays)
    update["layer.lora_A.weight"] = array
    return content_of(arrays, update=update)


def corruptions(arrays):
    """From a valid update: what a reply could be instead, with the verdict that it must get."""
    valid = content_of(arrays)
    first, second = (arrays[name] for name in SHAPES)
    renamed = {"layer.lora_A.weight": first, "layer.lora_b.weight": second}
    malformed = {
        **{
            f"without {record}": without(valid, record)
            for record in (protocol.UPDATE, protocol.HEADER)
        },
        **{
            f"without the header's {entry}": content_of(
                arrays, header=header_of(arrays, **{entry: None})
            )
            for entry in ("organization", "round", "num_examples", "update_hash")
        },
        **{
            f"{value!r} examples": content_of(arrays, header=header_of(arrays, num_examples=value))
            for value in (0, -1, 33, 2**53, True, 1.0, "32", [32])
        },
        **{
            f"round {value!r}": content_of(arrays, header=header_of(arrays, round=value))
            for value in (-1, True, 3.0, "3", [3], 2**63 - 1)
        },
        **{
            f"hash {value!r}": content_of(arrays, header=header_of(arrays, update_hash=value))
            for value in (b"", bytes(31), bytes(33), "ab" * 16, 7)
        },
        **{
            f"organization {value!r}": content_of(
                arrays, header=header_of(arrays, organization=value)
            )
            for value in (b"shop", 1, ["shop"])
        },
        "figures for a header": RecordDict({**valid, protocol.HEADER: MetricRecord({"round": 3})}),
        "a header for the update": RecordDict({**valid, protocol.UPDATE: header_of(arrays)}),
        "nothing": RecordDict(),
    }
    cases = {name: (content, Verdict.MALFORMED) for name, content in malformed.items()}
    for value in (math.nan, math.inf, -math.inf):
        cases[f"holds {value}"] = (not_finite(arrays, value), Verdict.NOT_FINITE)
    for name, organization in (
        ("another", "cinema"),
        ("none", ""),
        ("terminal codes", "\x1b[2J" * 300),
    ):
        content = content_of(arrays, header=header_of(arrays, organization=organization))
        cases[f"organization: {name}"] = (content, Verdict.WRONG_ORGANIZATION)
    for number in (0, 2, 4, 2**53 - 1):
        content = content_of(arrays, header=header_of(arrays, round=number))
        cases[f"round {number}"] = (content, Verdict.WRONG_ROUND)
    for name, other in {
        "an array missing": {"layer.lora_A.weight": first},
        "no array": {},
        "an array too many": {**arrays, "lm_head.weight": first},
        "an array renamed": renamed,
    }.items():
        cases[name] = (content_of(other, header=header_of(other)), Verdict.WRONG_NAMES)
    for name, array in {
        "float64": Array(first.astype(np.float64)),
        "float16": Array(first.astype(np.float16)),
        "integers": Array(first.view(np.int32)),
        "transposed": Array(np.ascontiguousarray(first.T)),
        "a row more": Array(np.vstack([first, first[:1]])),
        "another rank": Array(first[:1]),
        "flat": Array(first.reshape(-1)),
        "truncated": Array("float32", (2, 3), "numpy.ndarray", Array(first).data[:-4]),
        "another serialization": Array("float32", (2, 3), "torch.Tensor", Array(first).data),
        "noise": Array("float32", (2, 3), "numpy.ndarray", bytes(150)),
    }.items():
        cases[f"array: {name}"] = (replaced(arrays, array), Verdict.WRONG_SHAPE)
    cases["another update's hash"] = (
        content_of(arrays, header=header_of(arrays, update_hash=bytes(32))),
        Verdict.WRONG_HASH,
    )
    flipped = {"layer.lora_A.weight": first, "layer.lora_B.weight": second.copy()}
    flipped["layer.lora_B.weight"].view(np.uint32)[0, 0] ^= 1
    cases["a bit changed on the way"] = (
        content_of(flipped, header=header_of(arrays)),
        Verdict.WRONG_HASH,
    )
    return cases


ZEROS = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
CASES = sorted(corruptions(ZEROS))


@settings(FEW, max_examples=50)
@given(UPDATES, st.integers(1, 32))
def test_a_valid_reply_is_accepted_with_its_very_bits(arrays, examples):
    reply = checked(content_of(arrays, header=header_of(arrays, num_examples=examples)))
    assert reply.verdict is Verdict.ACCEPTED
    assert (reply.organization, reply.reason) == ("shop", "")
    assert reply.num_examples == examples
    assert reply.update_hash == hash_arrays(arrays)
    assert {name: array.tobytes() for name, array in reply.arrays.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert reply.metrics == METRICS


@pytest.mark.parametrize("case", CASES)
@FEW
@given(arrays=UPDATES)
def test_every_corruption_gets_its_verdict(case, arrays):
    content, verdict = corruptions(arrays)[case]
    reply = checked(content)
    assert reply.verdict is verdict
    assert reply.organization == "shop"
    assert reply.arrays is None
    assert reply.num_examples == 0
    assert len(reply.update_hash) == 32
    assert reply.reason
    assert reply.reason.isprintable()
    assert len(reply.reason) < 700


def test_a_reply_from_another_node_is_not_the_organizations():
    reply = checked(content_of(ZEROS), node=NODE + 1)
    assert reply.verdict is Verdict.WRONG_ORGANIZATION
    assert reply.reason == f"answered by node {NODE + 1}, expected node {NODE}"


def test_a_rejected_reply_keeps_the_hash_it_claimed_for_its_leaf():
    content, _ = corruptions(ZEROS)["round 4"]
    assert checked(content).update_hash == hash_arrays(ZEROS)


def test_a_rejection_quotes_nothing_of_the_payload():
    secret = np.full((2, 3), 123456.789, np.float32)
    for content, _ in corruptions({**ZEROS, "layer.lora_A.weight": secret}).values():
        assert "123456" not in checked(content).reason


@pytest.mark.parametrize(
    ("given_figures", "kept"),
    [
        ({"loss": math.nan, "tokens": 1}, {"tokens": 1.0}),
        ({"loss": math.inf, "last-loss": -math.inf}, {}),
        ({"losses": [1.0, 2.0], "loss": 0.5}, {"loss": 0.5}),
        ({"tokens": 10**400, "steps": 2}, {"steps": 2.0}),
        ({"Loss\n": 1.0, "x" * 65: 1.0, "a b": 1.0, "": 1.0}, {}),
        ({f"figure-{number}": 1.0 for number in range(65)}, {}),
    ],
)
def test_figures_that_are_no_finite_numbers_under_names_of_ours_are_left_out(given_figures, kept):
    reply = checked(content_of(ZEROS, metrics=MetricRecord(given_figures)))
    assert reply.verdict is Verdict.ACCEPTED
    assert reply.metrics == kept


def test_a_reply_without_figures_still_counts():
    assert checked(without(content_of(ZEROS), protocol.METRICS)).verdict is Verdict.ACCEPTED
    text = RecordDict({**content_of(ZEROS), protocol.METRICS: ConfigRecord({"loss": "0.5"})})
    assert checked(text).verdict is Verdict.ACCEPTED
    assert finite_metrics(text) == {}


def test_a_missing_reply_is_late_and_an_error_is_one_printable_line():
    assert error_of(None) == "no answer in time"
    message = invitation_message(NODE)
    ours = Error(0, "Traceback ...\nclient_app.app.OrganizationError: DataError: a.csv:3: bad\n...")
    assert error_of(reply_to(message, ours)) == "DataError: a.csv:3: bad"
    hostile = Error(0, "OrganizationError: \x1b[2J\r" + "x" * 10_000)
    line = error_of(reply_to(message, hostile))
    assert line.isprintable()
    assert len(line) <= 500
    assert error_of(reply_to(message, Error(0, "lost\nin\ttransit"))) == "lost in transit"


def test_an_update_record_is_read_as_arrays_only():
    content = content_of(ZEROS)
    assert isinstance(content[protocol.UPDATE], ArrayRecord)
