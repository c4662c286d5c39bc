"""Replies: every corruption of a valid one gets its verdict, and none stops the coordinator."""

import math
from dataclasses import replace

import numpy as np
import pytest
from eth_keys.constants import SECPK1_N
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blockchain.canonical import hash_arrays
from blockchain.model_update import DECLINED
from blockchain.typed_data import sign_digest
from strategies import protocol
from strategies.replies import (
    VERDICTS_OF_DECLINES,
    Invitation,
    UnsignedReplyError,
    Verdict,
    check_reply,
    finite_metrics,
)
from strategies.reply_errors import error_of
from strategies.signed_update import Opening, SignedUpdate, TaskContext, sign_decline
from tests.flower_messages import invitation_message, reply_to
from tests.signing_cases import DEADLINE, DOMAIN, account_of, decline_reply, signed_update

pytestmark = pytest.mark.usefixtures("flower_task")

NODE = 17
#: The fixture that these properties use is the same for every example.
FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPES = {"layer.lora_A.weight": (2, 3), "layer.lora_B.weight": (4, 2)}
PARENT = bytes([4]) * 32
INVITATION = Invitation("shop", NODE, 3, PARENT, [SHAPES], max_examples=32)
KEYS = (account_of("shop").address,)
CONTEXT = TaskContext(bytes([1]) * 32, bytes([2]) * 32, DOMAIN)
METRICS = {"tokens": 120, "last-loss": 0.5}
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
UPDATES = st.fixed_dictionaries(
    {name: hnp.arrays(np.float32, shape, elements=FINITE) for name, shape in SHAPES.items()}
)


def signed_of(arrays, *, examples=32, context=CONTEXT, name="shop", number=3, by=None):
    return signed_update(
        context,
        name,
        number,
        PARENT,
        update_hash=hash_arrays(arrays),
        num_examples=examples,
        account=by,
    )


def header_of(arrays, *, signed=None, **changes):
    signed = signed or signed_of(arrays)
    entries = {
        "organization": "shop",
        "round": 3,
        "num-examples": signed.update.num_examples,
        "commitment": signed.update.commitment,
        "deadline": signed.update.deadline,
        "signature": signed.signature,
        **{key.replace("_", "-"): value for key, value in changes.items()},
    }
    return ConfigRecord({key: value for key, value in entries.items() if value is not None})


def opening_of(signed, **changes):
    opening = {"update-hash": signed.opening.update_hash, "salt": signed.opening.salt}
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return ConfigRecord({k: v for k, v in {**opening, **named}.items() if v is not None})


def content_of(arrays, *, header=None, update=None, metrics=None, opening=None, signed=None):
    signed = signed or signed_of(arrays)
    return RecordDict(
        {
            protocol.UPDATE: update or protocol.array_record(arrays),
            protocol.HEADER: header or header_of(arrays, signed=signed),
            protocol.OPENING: opening or opening_of(signed),
            protocol.METRICS: metrics or MetricRecord(dict(METRICS)),
        }
    )


def checked(content, *, node=NODE, invitation=INVITATION, keys=KEYS):
    reply = reply_to(invitation_message(NODE), content, node=node)
    return check_reply(reply, invitation, CONTEXT, keys)


def without(content, key):
    return RecordDict({name: record for name, record in content.items() if name != key})


def with_arrays(arrays):
    """A reply whose hash is honest about arrays that are not what was asked for."""
    return content_of(arrays)


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
        "without an update": without(valid, protocol.UPDATE),
        **{
            f"without the header's {entry}": content_of(
                arrays, header=header_of(arrays, **{entry: None})
            )
            for entry in ("organization", "round")
        },
        **{
            f"{value} examples, signed": content_of(
                arrays, signed=signed_of(arrays, examples=value)
            )
            for value in (0, 33, 2**32 - 1)
        },
        **{
            f"round {value!r}": content_of(arrays, header=header_of(arrays, round=value))
            for value in (-1, True, 3.0, "3", [3], 2**63 - 1)
        },
        **{
            f"organization {value!r}": content_of(
                arrays, header=header_of(arrays, organization=value)
            )
            for value in (b"shop", 1, ["shop"])
        },
        "a header for the update": RecordDict({**valid, protocol.UPDATE: header_of(arrays)}),
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
        cases[name] = (content_of(other), Verdict.WRONG_NAMES)
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
    signed = signed_of(arrays)
    for name, opening in {
        "without an opening": None,
        "another update's hash": opening_of(signed, update_hash=bytes(32)),
        "another salt": opening_of(signed, salt=bytes(32)),
        "no salt": opening_of(signed, salt=None),
        "a short salt": opening_of(signed, salt=signed.opening.salt[:31]),
        "a hash in words": opening_of(signed, update_hash="ab" * 16),
        "figures for an opening": MetricRecord({"salt": 3}),
    }.items():
        content = (
            without(valid, protocol.OPENING)
            if opening is None
            else (content_of(arrays, opening=opening))
        )
        cases[name] = (content, Verdict.WRONG_COMMITMENT)
    other = {name: array + 1 for name, array in arrays.items()}
    cases["another update signed than sent"] = (
        content_of(arrays, signed=signed_of(other)),
        Verdict.WRONG_HASH,
    )
    flipped = {"layer.lora_A.weight": first, "layer.lora_B.weight": second.copy()}
    flipped["layer.lora_B.weight"].view(np.uint32)[0, 0] ^= 1
    cases["a bit changed on the way"] = (
        content_of(flipped, signed=signed_of(arrays)),
        Verdict.WRONG_HASH,
    )
    return cases


ZEROS = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
CASES = sorted(corruptions(ZEROS))


@settings(FEW, max_examples=50)
@given(UPDATES, st.integers(1, 32))
def test_a_valid_reply_is_accepted_with_its_very_bits(arrays, examples):
    reply = checked(content_of(arrays, signed=signed_of(arrays, examples=examples)))
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
    # It was signed, so it has a leaf, under what was signed.
    assert reply.signed.update.task == CONTEXT.task
    assert reply.reason
    assert reply.reason.isprintable()
    assert len(reply.reason) < 700


def test_a_reply_from_another_node_is_not_the_organizations():
    reply = checked(content_of(ZEROS), node=NODE + 1)
    assert reply.verdict is Verdict.WRONG_ORGANIZATION
    assert reply.reason == f"answered by node {NODE + 1}, expected node {NODE}"


OTHER_TASK = TaskContext(bytes([9]) * 32, CONTEXT.terms, DOMAIN)
OTHER_TERMS = TaskContext(CONTEXT.task, bytes([9]) * 32, DOMAIN)
OTHER_CHAIN = TaskContext(CONTEXT.task, CONTEXT.terms, replace(DOMAIN, chain_id=1))
OTHER_CONTRACT = TaskContext(
    CONTEXT.task, CONTEXT.terms, replace(DOMAIN, contract="0x" + "11" * 20)
)


def unsigned_replies():
    """From a valid reply: what its sender did not sign for this round, and so counts as nothing."""
    signed = signed_of(ZEROS)
    yield "another's key", content_of(ZEROS, signed=signed_of(ZEROS, by=account_of("cinema")))
    yield "for another task", content_of(ZEROS, signed=signed_of(ZEROS, context=OTHER_TASK))
    yield "under other terms", content_of(ZEROS, signed=signed_of(ZEROS, context=OTHER_TERMS))
    yield "on another chain", content_of(ZEROS, signed=signed_of(ZEROS, context=OTHER_CHAIN))
    yield "at another contract", content_of(ZEROS, signed=signed_of(ZEROS, context=OTHER_CONTRACT))
    for number in (0, 2, 4):
        yield f"of round {number}", content_of(ZEROS, signed=signed_of(ZEROS, number=number))
    yield "as another organization", content_of(ZEROS, signed=signed_of(ZEROS, name="cinema"))
    for name, changes in {
        "more examples than signed": {"num_examples": 31},
        "another commitment": {"commitment": bytes(32)},
        "another deadline": {"deadline": 2**40 + 1},
        "no signature": {"signature": None},
        "an empty signature": {"signature": b""},
        "a signature in words": {"signature": "0x" + "00" * 65},
        "no commitment": {"commitment": None},
        "a short commitment": {"commitment": bytes(31)},
        "no deadline": {"deadline": None},
        "a negative deadline": {"deadline": -1},
        "examples beyond 32 bits": {"num_examples": 2**32},
        "true examples": {"num_examples": True},
        "examples in words": {"num_examples": "32"},
    }.items():
        yield name, content_of(ZEROS, header=header_of(ZEROS, **changes))
    mirrored = (
        signed.signature[:32]
        + (SECPK1_N - int.from_bytes(signed.signature[32:64])).to_bytes(32)
        + bytes([55 - signed.signature[64]])
    )
    yield "mirrored", content_of(ZEROS, header=header_of(ZEROS, signature=mirrored))
    for byte in range(0, 65, 8):
        flipped = bytearray(signed.signature)
        flipped[byte] ^= 1
        yield (
            f"byte {byte} flipped",
            content_of(ZEROS, header=header_of(ZEROS, signature=bytes(flipped))),
        )
    yield "without a header", without(content_of(ZEROS), protocol.HEADER)
    yield (
        "figures for a header",
        RecordDict({**content_of(ZEROS), protocol.HEADER: MetricRecord({"round": 3})}),
    )
    yield "nothing", RecordDict()


UNSIGNED = dict(unsigned_replies())


@pytest.mark.parametrize("case", UNSIGNED)
def test_what_was_not_signed_for_this_round_is_as_if_nothing_had_come(case):
    with pytest.raises(UnsignedReplyError) as caught:
        checked(UNSIGNED[case])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_any_key_that_was_valid_in_the_round_counts_and_no_other():
    old, new = account_of("shop"), account_of("shop, rotated")
    for account in (old, new):
        content = content_of(ZEROS, signed=signed_of(ZEROS, by=account))
        assert checked(content, keys=(old.address, new.address)).verdict is Verdict.ACCEPTED
    content = content_of(ZEROS, signed=signed_of(ZEROS, by=old))
    for keys in ((new.address,), ()):
        with pytest.raises(UnsignedReplyError):
            checked(content, keys=keys)


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


def valid_decline():
    return decline_reply(CONTEXT, "shop", 3, PARENT)


def with_header(content, **changes):
    """The same reply with other words around what was signed."""
    header = {**content[protocol.HEADER], **changes}
    return RecordDict({**content, protocol.HEADER: ConfigRecord(header)})


def signed_as(committed, examples):
    """A reply over any commitment and number of records, signed by the organization."""
    update = CONTEXT.update(
        "shop", 3, PARENT, committed=committed, num_examples=examples, deadline=DEADLINE
    )
    signature = sign_digest(update.digest(DOMAIN), account_of("shop"))
    return SignedUpdate(update, signature, Opening.of_nothing())


#: Beyond 2**63 a figure is left out.
FIGURES = st.floats(-(2.0**62), 2.0**62)
NAMES_OF_FIGURES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@FEW
@given(st.dictionaries(NAMES_OF_FIGURES, FIGURES, max_size=5))
def test_a_decline_is_neither_accepted_nor_rejected_and_its_figures_are_kept(figures):
    content = RecordDict({**valid_decline(), protocol.METRICS: MetricRecord(figures)})
    reply = checked(content)
    assert reply.verdict is Verdict.DECLINED
    assert (reply.organization, reply.reason, reply.num_examples) == ("shop", "", 0)
    assert reply.arrays is None
    assert reply.metrics == figures
    assert reply.signed.declines


def test_a_decline_needs_neither_figures_nor_an_opening_and_an_opening_adds_nothing():
    assert checked(without(valid_decline(), protocol.METRICS)).verdict is Verdict.DECLINED
    for opening in (opening_of(signed_of(ZEROS)), ConfigRecord({"salt": bytes(32)})):
        content = RecordDict({**valid_decline(), protocol.OPENING: opening})
        assert checked(content).verdict is Verdict.DECLINED


def declines_out_of_order():
    """From a valid decline and a valid update: what is neither, though it was signed."""
    valid, update = valid_decline(), content_of(ZEROS)
    for name, record in {
        "carries an update": update[protocol.UPDATE],
        "carries no arrays under an update's name": ArrayRecord(),
        "carries text for an update": ConfigRecord({"a": "b"}),
    }.items():
        yield name, RecordDict({**valid, protocol.UPDATE: record}), Verdict.MALFORMED
    opened = signed_of(ZEROS, examples=0)
    for name, content in {
        "an update over no records": content_of(ZEROS, signed=opened),
        "no update over no records": without(content_of(ZEROS, signed=opened), protocol.UPDATE),
        "a commitment of zeros": with_header(
            valid, commitment=bytes(32), signature=signed_as(bytes(32), 0).signature
        ),
    }.items():
        yield name, content, Verdict.MALFORMED
    for examples in (1, 32, 33, 2**32 - 1):
        signature = signed_as(DECLINED, examples).signature
        changes = {"num-examples": examples, "signature": signature}
        alone = with_header(valid, **changes)
        yield f"{examples} records and nothing else", alone, Verdict.MALFORMED
        carrying = RecordDict({**alone, protocol.UPDATE: update[protocol.UPDATE]})
        yield f"{examples} records and an update", carrying, Verdict.MALFORMED
    for organization in ("cinema", "", "shop "):
        content = with_header(valid, organization=organization)
        yield f"of {organization!r}", content, Verdict.WRONG_ORGANIZATION
    for number in (0, 2, 4):
        yield f"of round {number}", with_header(valid, round=number), Verdict.WRONG_ROUND
    yield "of a round in words", with_header(valid, round="3"), Verdict.MALFORMED


DECLINES_OUT_OF_ORDER = {name: rest for name, *rest in declines_out_of_order()}


@pytest.mark.parametrize("case", DECLINES_OUT_OF_ORDER)
def test_what_is_neither_a_decline_nor_an_update_is_rejected_with_a_reason(case):
    content, verdict = DECLINES_OUT_OF_ORDER[case]
    reply = checked(content)
    assert reply.verdict is verdict
    assert reply.arrays is None
    assert reply.metrics == {}
    assert reply.reason.isprintable()
    assert 0 < len(reply.reason) < 700
    # Whoever declines and words the message badly must not make the round fail an audit.
    assert not reply.signed.declines or verdict in VERDICTS_OF_DECLINES


def test_a_decline_from_another_node_is_not_the_organizations():
    assert checked(valid_decline(), node=NODE + 1).verdict is Verdict.WRONG_ORGANIZATION


def unsigned_declines():
    """From a valid decline: what its sender did not sign for this round."""
    valid = valid_decline()
    for name, context, by in (
        ("by another's key", CONTEXT, "cinema"),
        ("for another task", OTHER_TASK, "shop"),
        ("under other terms", OTHER_TERMS, "shop"),
        ("on another chain", OTHER_CHAIN, "shop"),
        ("at another contract", OTHER_CONTRACT, "shop"),
    ):
        signed = sign_decline(context, account_of(by), "shop", 3, PARENT, deadline=DEADLINE)
        yield name, with_header(valid, signature=signed.signature)
    for name, number, parent in (("of round 2", 2, PARENT), ("on another adapter", 3, bytes(32))):
        signed = sign_decline(
            CONTEXT, account_of("shop"), "shop", number, parent, deadline=DEADLINE
        )
        yield name, with_header(valid, signature=signed.signature)
    for name, changes in {
        "of records not signed": {"num-examples": 1},
        "over another commitment": {"commitment": bytes(32)},
        "of another deadline": {"deadline": DEADLINE + 1},
        "with an update's signature": {"signature": signed_of(ZEROS).signature},
    }.items():
        yield name, with_header(valid, **changes)
    # Nor can an update's signature be turned into a decline's.
    changes = {"num-examples": 0, "commitment": DECLINED}
    yield "an update's, relabelled", with_header(content_of(ZEROS), **changes)


@pytest.mark.parametrize("case", dict(unsigned_declines()))
def test_a_decline_that_was_not_signed_for_this_round_is_as_if_nothing_had_come(case):
    with pytest.raises(UnsignedReplyError):
        checked(dict(unsigned_declines())[case])


def shapes_at(rank):
    return {"layer.lora_A.weight": (rank, 3), "layer.lora_B.weight": (4, rank)}


RANKS = (1, 2, 4)
EFFORTS = replace(INVITATION, shapes=[shapes_at(rank) for rank in RANKS])


def updates_at(rank):
    return st.fixed_dictionaries(
        {
            name: hnp.arrays(np.float32, shape, elements=FINITE)
            for name, shape in shapes_at(rank).items()
        }
    )


@settings(FEW, max_examples=50)
@given(st.sampled_from(RANKS).flatmap(updates_at))
def test_an_update_of_any_rank_asked_for_is_accepted_with_its_very_bits(arrays):
    reply = checked(content_of(arrays), invitation=EFFORTS)
    assert reply.verdict is Verdict.ACCEPTED
    assert {name: array.tobytes() for name, array in reply.arrays.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


@pytest.mark.parametrize("rank", [3, 5, 8])
def test_a_rank_that_was_not_asked_for_is_rejected_with_the_largest_that_was(rank):
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes_at(rank).items()}
    reply = checked(content_of(arrays), invitation=EFFORTS)
    assert reply.verdict is Verdict.WRONG_SHAPE
    assert "layer.lora_A.weight" in reply.reason
    assert "(4, 3)" in reply.reason


def test_factors_of_two_ranks_in_one_update_are_rejected():
    for first, second in ((1, 2), (2, 1), (4, 1), (2, 4)):
        mixed = {
            "layer.lora_A.weight": np.zeros((first, 3), np.float32),
            "layer.lora_B.weight": np.zeros((4, second), np.float32),
        }
        reply = checked(content_of(mixed), invitation=EFFORTS)
        assert reply.verdict is Verdict.WRONG_SHAPE, (first, second)


def test_arrays_that_say_one_rank_and_hold_another_are_rejected():
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes_at(2).items()}
    for said in (1, 4):
        update = ArrayRecord(
            {
                name: Array("float32", shapes_at(said)[name], "numpy.ndarray", Array(array).data)
                for name, array in arrays.items()
            }
        )
        reply = checked(content_of(arrays, update=update), invitation=EFFORTS)
        assert reply.verdict is Verdict.WRONG_SHAPE


def test_names_are_held_against_the_largest_rank():
    content = content_of({"layer.lora_A.weight": np.zeros((1, 3), np.float32)})
    reply = checked(content, invitation=EFFORTS)
    assert reply.verdict is Verdict.WRONG_NAMES
    assert "1 arrays missing (layer.lora_B.weight)" in reply.reason
