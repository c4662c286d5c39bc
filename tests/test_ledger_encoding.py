"""The private ledger's bytes: pinned, made as other encoders make them, good in one place alone."""

import hashlib
import hmac
import json
from dataclasses import asdict, fields, replace

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from blockchain import transparency_log
from blockchain.private.encoding import (
    BLOCK_TYPE,
    ENDORSEMENT_TYPE,
    MEMBER_KEY_TYPE,
    TOMBSTONE_LEAF,
    Block,
    ciphertext_hash,
    endorsement_digest,
    entry_commitment,
    ledger_domain,
    ledger_id,
    member_key_digest,
    member_of,
    payload_commitment,
    read_leaf,
)
from blockchain.private.policy import DEFAULT_RULES, Policy
from blockchain.private.record_types import (
    Role,
    RoleKey,
)
from blockchain.transparency_log import leaf_hash
from blockchain.typed_data import Domain, SignatureError, check_signer, sign_digest
from tests.ledger_cases import AUDITOR, OFFICER, OPERATOR, STRANGER
from tests.make_ledger_vectors import DOMAIN, GENESIS, LEDGER, VECTORS, block, leaves, vectors

HASH = st.binary(min_size=32, max_size=32)
NUMBER = st.integers(0, 2**64 - 1)
ACCOUNTS = (OPERATOR, OFFICER, AUDITOR, STRANGER)
ADDRESS = st.sampled_from([account.address for account in ACCOUNTS])
BLOCK = st.builds(
    Block,
    version=st.integers(0, 2**32 - 1),
    ledger=HASH,
    height=NUMBER,
    previous=HASH,
    size=NUMBER,
    root=HASH,
    policy=HASH,
    time=NUMBER,
    author=ADDRESS,
)


def by_eth_account(type_string, message, address):
    """The digest as eth-account's general encoder computes it."""
    struct, _, members = type_string[:-1].partition("(")
    types = [part.split(" ") for part in members.split(",")]
    signable = encode_typed_data(
        domain_data={
            "name": "Foedus Ledger",
            "version": "1",
            "chainId": 0,
            "verifyingContract": address,
        },
        message_types={struct: [{"type": kind, "name": name} for kind, name in types]},
        message_data=message,
    )
    return bytes(_hash_eip191_message(signable))


def flipped(value):
    """Bytes that differ in one bit."""
    return bytes([value[0] ^ 1]) + value[1:]


# Pinned


def test_the_vectors_on_disk_are_those_of_this_code():
    assert VECTORS.read_text() == vectors(), "run `python -m tests.make_ledger_vectors`"


def test_the_pinned_leaves_read_back_and_make_the_pinned_root():
    pinned = json.loads(VECTORS.read_text())
    encoded = [case["text"].encode() for case in pinned["leaves"]]
    assert [read_leaf(leaf) for leaf in encoded] == leaves()
    assert transparency_log.root(encoded).hex() == pinned["root"]
    for leaf, case in zip(encoded, pinned["leaves"], strict=True):
        assert hashlib.sha256(b"\x00" + leaf).hexdigest() == case["hash"]


def test_the_pinned_hashes_are_those_of_the_definitions():
    def named(name):
        return hashlib.sha256(name.encode()).digest()

    def json_hash(value):
        text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        tag = b"foedus.json.v1"
        return hashlib.sha256(len(tag).to_bytes(8, "little") + tag + text.encode()).hexdigest()

    pinned = json.loads(VECTORS.read_text())
    genesis = json.loads(pinned["leaves"][0]["text"])["body"]
    policy = {
        "members": {member["address"]: member for member in genesis["members"]},
        "role_keys": genesis["role_keys"],
        "rules": genesis["rules"],
    }
    assert pinned["ledgerId"] == json_hash(genesis)
    assert pinned["policyHash"] == json_hash(policy)
    salt, entry = named("salt"), named("content") + b"id 1"
    for name, content in (
        ("payloadCommitment", b"foedus.ledger.payload.v1" + salt + b"payload"),
        ("entryCommitment", b"foedus.ledger.entry.v1" + salt + entry),
        ("ciphertextHash", bytes(12) + b"ciphertext"),
        ("tombstoneLeafHash", b"\x00" + b"foedus.ledger.tombstone.v1"),
    ):
        assert pinned[name] == hashlib.sha256(content).hexdigest(), name
    row = b'{"kind":"keys","row":{"record":1}}'
    assert pinned["mac"] == hmac.digest(bytes.fromhex(pinned["macKey"]), row, "sha256").hex()
    key = bytes.fromhex(pinned["suppressionKey"])
    assert pinned["keyedId"] == hmac.digest(key, b"id 1", "sha256").hex()


def test_keys_derived_for_different_ends_differ():
    pinned = json.loads(VECTORS.read_text())
    assert len({pinned["macKey"], pinned["suppressionKey"], pinned["memberKey"]}) == 3


def test_the_pinned_signatures_are_the_operators():
    pinned = json.loads(VECTORS.read_text())
    for digest, signature in (
        (pinned["blockDigest"], pinned["blockSignature"]),
        (pinned["memberKeyDigest"], pinned["memberKeyProof"]),
    ):
        check_signer(bytes.fromhex(digest), bytes.fromhex(signature), OPERATOR.address)


# As another encoder has it


@settings(max_examples=60)
@given(one=BLOCK, address=ADDRESS)
def test_a_blocks_digest_is_that_of_another_encoder(one, address):
    assert one.digest(ledger_domain(address)) == by_eth_account(BLOCK_TYPE, asdict(one), address)


@settings(max_examples=40)
@given(ledger=HASH, record=NUMBER, leaf=HASH, role=st.sampled_from(Role), address=ADDRESS)
def test_an_endorsements_digest_is_that_of_another_encoder(ledger, record, leaf, role, address):
    message = {"ledger": ledger, "record": record, "leaf": leaf, "role": keccak(text=role.value)}
    digest = endorsement_digest(ledger_domain(address), ledger, record, leaf, role)
    assert digest == by_eth_account(ENDORSEMENT_TYPE, message, address)


@settings(max_examples=20)
@given(encryption=HASH, address=ADDRESS)
def test_a_member_keys_digest_is_that_of_another_encoder_and_of_no_organization(
    encryption, address
):
    message = {"member": address, "encryption": encryption}
    expected = by_eth_account(MEMBER_KEY_TYPE, message, "0x" + "00" * 20)
    assert member_key_digest(address, encryption) == expected


# What a signature says


def changed_blocks():
    """Every way to change one field of the pinned block, by name."""
    for field in fields(Block):
        value = getattr(block(), field.name)
        if field.name == "author":
            other = OFFICER.address
        else:
            other = flipped(value) if isinstance(value, bytes) else value + 1
        yield field.name, replace(block(), **{field.name: other})


@pytest.mark.parametrize(("field", "other"), list(changed_blocks()), ids=lambda v: str(v)[:20])
def test_a_blocks_signature_says_nothing_else_than_it_was_made_for(field, other):
    assert other.digest(DOMAIN) != block().digest(DOMAIN)
    signature = sign_digest(block().digest(DOMAIN), OPERATOR)
    check_signer(block().digest(DOMAIN), signature, OPERATOR.address)
    with pytest.raises(SignatureError, match="signed by 0x"):
        check_signer(other.digest(DOMAIN), signature, OPERATOR.address)


@settings(max_examples=60)
@given(one=BLOCK, other=BLOCK)
def test_different_blocks_have_different_digests(one, other):
    assert (one.digest(DOMAIN) == other.digest(DOMAIN)) == (one == other)


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.parametrize("field", ["ledger", "previous", "root", "policy"])
def test_a_block_with_a_hash_of_another_size_has_no_digest(field, size):
    with pytest.raises(ValueError, match=f"{field}: expected 32 bytes"):
        replace(block(), **{field: bytes(size)}).digest(DOMAIN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("version", v) for v in (-1, 2**32, True, 1.0)],
        *[(name, v) for name in ("height", "size", "time") for v in (-1, 2**64, None, "1")],
        ("author", "nobody"),
    ],
)
def test_a_block_with_a_value_that_does_not_fit_has_no_digest(field, value):
    with pytest.raises(ValueError, match=f"{field}: .*, expected"):
        replace(block(), **{field: value}).digest(DOMAIN)


@given(record=NUMBER, leaf=HASH, role=st.sampled_from(Role))
def test_an_endorsement_is_of_one_record_of_one_ledger_in_one_role(record, leaf, role):
    digest = endorsement_digest(DOMAIN, LEDGER, record, leaf, role)
    others = {
        endorsement_digest(DOMAIN, flipped(LEDGER), record, leaf, role),
        endorsement_digest(DOMAIN, LEDGER, record ^ 1, leaf, role),
        endorsement_digest(DOMAIN, LEDGER, record, flipped(leaf), role),
        *(endorsement_digest(DOMAIN, LEDGER, record, leaf, one) for one in Role if one != role),
    }
    assert len(others) == 6
    assert digest not in others


@pytest.mark.parametrize(
    "domain",
    [
        ledger_domain(OFFICER.address),
        Domain(1, OPERATOR.address, "Foedus Ledger"),
        Domain(0, OPERATOR.address, "Foedus Rounds"),
        Domain(0, OPERATOR.address),
    ],
    ids=["another organization", "a chain", "another domain", "the domain of rounds"],
)
def test_a_signature_for_one_organizations_ledger_counts_in_no_other_place(domain):
    leaf = leaf_hash(leaves()[1].encoded())
    for here, there in (
        (block().digest(DOMAIN), block().digest(domain)),
        (
            endorsement_digest(DOMAIN, LEDGER, 1, leaf, Role.OFFICER),
            endorsement_digest(domain, LEDGER, 1, leaf, Role.OFFICER),
        ),
    ):
        signature = sign_digest(here, OPERATOR)
        check_signer(here, signature, OPERATOR.address)
        with pytest.raises(SignatureError):
            check_signer(there, signature, OPERATOR.address)


# Ids and commitments


def test_another_genesis_is_another_ledger_and_another_policy_has_another_hash():
    def with_rules(**changes):
        return GENESIS.model_copy(update={"rules": DEFAULT_RULES.model_copy(update=changes)})

    fewer = dict(GENESIS.role_keys) | {"auditor": RoleKey(generation=1, public="00" * 32)}
    others = {
        "organization": GENESIS.model_copy(update={"organization": "00" * 32}),
        "address": GENESIS.model_copy(update={"address": OFFICER.address}),
        "nonce": GENESIS.model_copy(update={"nonce": "00" * 32}),
        "members": GENESIS.model_copy(update={"members": GENESIS.members[:2]}),
        "role keys": GENESIS.model_copy(update={"role_keys": fewer}),
        "writers": with_rules(writers=dict(DEFAULT_RULES.writers) | {"genesis": (Role.OFFICER,)}),
        "readers": with_rules(readers=dict(DEFAULT_RULES.readers) | {"receipt": (Role.AUDITOR,)}),
        "endorsements": with_rules(endorsements={}),
    }
    ids = {ledger_id(other) for other in others.values()}
    assert len(ids | {LEDGER}) == len(others) + 1
    same_policy = {"organization", "nonce"}
    for name, other in others.items():
        if name == "address":
            # That genesis has no operator of this address.
            continue
        is_same = Policy.of(other).hash == Policy.of(GENESIS).hash
        assert is_same == (name in same_policy), name


def test_the_order_of_members_is_part_of_the_ledger_and_not_of_the_policy():
    other = GENESIS.model_copy(update={"members": GENESIS.members[::-1]})
    assert ledger_id(other) != LEDGER
    assert Policy.of(other).hash == Policy.of(GENESIS).hash


@given(salt=HASH, payload=st.binary(max_size=40))
def test_a_payloads_commitment_binds_salt_and_payload(salt, payload):
    committed = payload_commitment(salt, payload)
    assert len(committed) == 32
    assert committed != payload_commitment(flipped(salt), payload)
    assert committed != payload_commitment(salt, payload + b"\x00")
    assert committed != entry_commitment(salt, payload.hex(), salt)


@given(salt=HASH, record_id=st.text(max_size=20), content=HASH)
def test_an_entrys_commitment_binds_salt_id_and_content(salt, record_id, content):
    committed = entry_commitment(salt, record_id, content)
    assert len(committed) == 32
    assert committed != entry_commitment(flipped(salt), record_id, content)
    assert committed != entry_commitment(salt, record_id + "0", content)
    assert committed != entry_commitment(salt, record_id, flipped(content))
    assert leaf_hash(committed) != leaf_hash(TOMBSTONE_LEAF)


@given(nonce=st.binary(min_size=12, max_size=12), ciphertext=st.binary(min_size=16, max_size=40))
def test_a_leaf_binds_nonce_and_ciphertext(nonce, ciphertext):
    hashed = ciphertext_hash(nonce, ciphertext)
    assert hashed != ciphertext_hash(flipped(nonce), ciphertext)
    assert hashed != ciphertext_hash(nonce, flipped(ciphertext))


@settings(max_examples=20)
@given(roles=st.lists(st.sampled_from(Role), unique=True))
def test_a_member_is_the_same_every_time_whatever_the_order_of_its_roles(roles):
    one = member_of(OFFICER, *roles)
    assert one == member_of(OFFICER, *reversed(roles))
    assert list(one.roles) == sorted(roles)
    said = member_key_digest(OFFICER.address, bytes.fromhex(one.encryption))
    check_signer(said, bytes.fromhex(one.proof), OFFICER.address)
    assert one.encryption != member_of(OPERATOR, *roles).encryption
