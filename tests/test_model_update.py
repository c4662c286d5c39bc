"""Signed updates: one signature says one thing, in one place, by one key."""

from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_keys.constants import SECPK1_N
from hypothesis import given, settings
from hypothesis import strategies as st

from blockchain.model_update import (
    ATTESTATION_TYPE,
    DECLINED,
    MODEL_UPDATE_TYPE,
    RECEIPT_TYPE,
    Attestation,
    ModelUpdate,
    commitment,
    receipt_digest,
)
from blockchain.typed_data import (
    Domain,
    SignatureError,
    check_signer,
    digest,
    recover,
    sign_digest,
)

HASH = st.binary(min_size=32, max_size=32)
UPDATE = st.builds(
    ModelUpdate,
    task=HASH,
    round=st.integers(0, 2**64 - 1),
    organization=HASH,
    parent_adapter=HASH,
    terms=HASH,
    commitment=HASH,
    num_examples=st.integers(0, 2**32 - 1),
    deadline=st.integers(0, 2**64 - 1),
)
DOMAIN = Domain(31337, "0x" + "5F" * 20)
ACCOUNT = Account.from_key(b"\x07" * 32)
EXAMPLE = ModelUpdate(*(bytes([1]) * 32, 3), *(bytes([n]) * 32 for n in (2, 3, 4, 5)), 128, 2**40)

#: The fields under their Solidity names, in the order of the signed type.
SOLIDITY = {
    "task": "task",
    "round": "round",
    "organization": "organization",
    "parentAdapter": "parent_adapter",
    "terms": "terms",
    "commitment": "commitment",
    "numExamples": "num_examples",
    "deadline": "deadline",
}


def sign(update, domain, account):
    return sign_digest(update.digest(domain), account)


def check_signed_by(update, domain, signature, address):
    check_signer(update.digest(domain), signature, address)


def by_eth_account(type_string, message, domain):
    """The digest as eth-account's general encoder computes it."""
    struct, _, fields = type_string[:-1].partition("(")
    types = [part.split(" ") for part in fields.split(",")]
    signable = encode_typed_data(
        domain_data={
            "name": domain.name,
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        message_types={struct: [{"type": kind, "name": name} for kind, name in types]},
        message_data=message,
    )
    return bytes(_hash_eip191_message(signable))


def solidity(update):
    return {name: getattr(update, field) for name, field in SOLIDITY.items()}


@settings(max_examples=60)
@given(update=UPDATE, chain_id=st.integers(1, 2**63))
def test_the_digest_is_that_of_another_encoder(update, chain_id):
    domain = replace(DOMAIN, chain_id=chain_id)
    assert update.digest(domain) == by_eth_account(MODEL_UPDATE_TYPE, solidity(update), domain)


@settings(max_examples=20)
@given(values=st.tuples(*[HASH] * 6), number=st.integers(0, 2**64 - 1))
def test_receipts_and_attestations_too_are_encoded_as_another_encoder_does(values, number):
    task, organization, root, adapter, record, scores = values
    attestation = Attestation(task, number, organization, root, adapter, record, scores)
    message = {
        "task": task,
        "round": number,
        "organization": organization,
        "updatesRoot": root,
        "adapter": adapter,
        "record": record,
        "scores": scores,
    }
    assert attestation.digest(DOMAIN) == by_eth_account(ATTESTATION_TYPE, message, DOMAIN)
    assert receipt_digest(task, DOMAIN) == by_eth_account(RECEIPT_TYPE, {"update": task}, DOMAIN)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "missing or surplus: update"),
        ({"update": bytes(32), "more": 1}, "missing or surplus: more"),
        ({"update": bytes(31)}, "update: expected 32 bytes"),
        ({"update": 7}, "update: expected 32 bytes"),
    ],
)
def test_a_struct_is_encoded_only_with_exactly_its_fields(values, said):
    with pytest.raises(ValueError, match=said):
        digest(DOMAIN, RECEIPT_TYPE, values)


def test_an_address_that_is_none_and_a_type_that_is_not_supported_are_refused():
    with pytest.raises(ValueError, match="who: 'me', expected an address"):
        digest(DOMAIN, "Greeting(address who)", {"who": "me"})
    with pytest.raises(ValueError, match="words: a field of type string"):
        digest(DOMAIN, "Greeting(string words)", {"words": "hello"})


def test_the_digest_of_an_example_is_pinned():
    pinned = "f10b16064a0fa9aa335f420be4c86892cc4094a2d91522ec0f0ddafc3037adf9"
    assert EXAMPLE.digest(DOMAIN).hex() == pinned


@settings(max_examples=40)
@given(update=UPDATE, secret=st.binary(min_size=31, max_size=31))
def test_a_signature_names_its_key_and_is_the_same_every_time(update, secret):
    account = Account.from_key(b"\x01" + secret)
    signature = sign(update, DOMAIN, account)
    assert len(signature) == 65
    assert signature == sign(update, DOMAIN, account)
    assert recover(update.digest(DOMAIN), signature) == account.address
    check_signed_by(update, DOMAIN, signature, account.address.lower())


def changed_updates():
    """Every way to change one field of the example, by name."""
    for name in SOLIDITY.values():
        value = getattr(EXAMPLE, name)
        other = bytes([value[0] ^ 1]) + value[1:] if isinstance(value, bytes) else value + 1
        yield name, replace(EXAMPLE, **{name: other})


@pytest.mark.parametrize(("field", "other"), list(changed_updates()), ids=lambda v: str(v)[:20])
def test_a_signature_says_nothing_else_than_it_was_made_for(field, other):
    signature = sign(EXAMPLE, DOMAIN, ACCOUNT)
    with pytest.raises(SignatureError, match="signed by 0x"):
        check_signed_by(other, DOMAIN, signature, ACCOUNT.address)


@pytest.mark.parametrize(
    "domain",
    [
        Domain(31338, DOMAIN.contract),
        Domain(31337, "0x" + "5E" * 20),
        replace(DOMAIN, name="Foedus Registry"),
    ],
    ids=["another chain", "another contract", "another domain"],
)
def test_a_signature_counts_in_no_other_place(domain):
    signature = sign(EXAMPLE, DOMAIN, ACCOUNT)
    with pytest.raises(SignatureError):
        check_signed_by(EXAMPLE, domain, signature, ACCOUNT.address)


def test_the_signature_of_another_key_is_refused():
    stranger = Account.from_key(b"\x08" * 32)
    with pytest.raises(SignatureError, match=f"signed by {stranger.address}, expected"):
        check_signed_by(EXAMPLE, DOMAIN, sign(EXAMPLE, DOMAIN, stranger), ACCOUNT.address)


def corrupted_signatures():
    """Named corruptions of a valid signature, none of which may count."""
    valid = sign(EXAMPLE, DOMAIN, ACCOUNT)
    r, s, v = valid[:32], valid[32:64], valid[64]
    mirrored = (SECPK1_N - int.from_bytes(s)).to_bytes(32)
    yield "mirrored: s in the upper half", r + mirrored + bytes([55 - v])
    yield "upper s with the old v", r + mirrored + bytes([v])
    yield "the other v", r + s + bytes([55 - v])
    for other in (0, 1, 26, 29, 255):
        yield f"v = {other}", r + s + bytes([other])
    yield "r and s exchanged", s + r + bytes([v])
    yield "r zero", bytes(32) + s + bytes([v])
    yield "s zero", r + bytes(32) + bytes([v])
    yield "r at the order", SECPK1_N.to_bytes(32) + s + bytes([v])
    yield "r beyond the field", b"\xff" * 32 + s + bytes([v])
    yield "empty", b""
    yield "one byte short", valid[:-1]
    yield "one byte long", valid + b"\x00"
    yield "EIP-2098's short form", r + s
    yield "hexadecimal text", valid.hex().encode()
    yield "no bytes", valid.hex()
    for bit in range(0, 64 * 8, 37):
        flipped = bytearray(valid)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)


@pytest.mark.parametrize(
    ("name", "signature"), list(corrupted_signatures()), ids=lambda v: str(v)[:30]
)
def test_no_corruption_of_a_signature_counts(name, signature):
    with pytest.raises(SignatureError) as caught:
        check_signed_by(EXAMPLE, DOMAIN, signature, ACCOUNT.address)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.parametrize("field", ["task", "organization", "parent_adapter", "terms", "commitment"])
def test_a_hash_of_another_size_is_refused_not_padded(field, size):
    with pytest.raises(ValueError, match=f"{field}: expected 32 bytes"):
        replace(EXAMPLE, **{field: bytes(size)})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("round", v) for v in (-1, 2**64, True, 1.0, "1")],
        *[("num_examples", v) for v in (-1, 2**32, False)],
        *[("deadline", v) for v in (-1, 2**64, None)],
    ],
)
def test_a_number_that_does_not_fit_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}: .*, expected a whole number of"):
        replace(EXAMPLE, **{field: value})


@given(update=HASH, examples=st.integers(0, 2**32 - 1), salt=HASH)
def test_a_commitment_binds_update_number_and_salt(update, examples, salt):
    committed = commitment(update, examples, salt)
    assert len(committed) == 32
    flipped = bytes([update[0] ^ 1]) + update[1:]
    assert committed != commitment(flipped, examples, salt)
    assert committed != commitment(update, examples ^ 1, salt)
    assert committed != commitment(update, examples, bytes([salt[0] ^ 1]) + salt[1:])


@given(UPDATE)
def test_an_update_declines_only_over_no_records_and_the_public_constant_together(update):
    assert replace(update, num_examples=0, commitment=DECLINED).declines
    assert not replace(update, num_examples=1, commitment=DECLINED).declines
    assert update.commitment == DECLINED or not replace(update, num_examples=0).declines


@given(HASH, HASH)
def test_no_hash_and_salt_open_a_decline(update_hash, salt):
    assert commitment(update_hash, 0, salt) != DECLINED
    assert commitment(bytes(32), 0, bytes(32)) != DECLINED


def test_the_constant_of_a_decline_stays_what_it_was():
    # It stands in leaves and on the chain: another constant would make old declines updates.
    assert DECLINED.hex() == "d37daead66a9746a011e6a399e0e417cf4af9512bd8459366dea541e9fa1a110"
