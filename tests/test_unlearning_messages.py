"""What is signed about requests to forget: the contract hashes it alike, and every field counts."""

import re
from dataclasses import replace

import pytest
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from blockchain.toolchain import hardhat_folder
from blockchain.typed_data import Domain
from blockchain.unlearning_messages import (
    Cancellation,
    Completion,
    Guarantee,
    Request,
    RequestState,
    UnlearningScope,
    request_id,
    subject_commitment,
)

pytest_plugins = ["tests.chain_fixtures"]

RECORDS, ORGANIZATION = UnlearningScope
HASH = st.binary(min_size=32, max_size=32)
LONG = st.integers(0, 2**64 - 1)
REQUEST = st.builds(Request, HASH, HASH, HASH, st.sampled_from(UnlearningScope), LONG)
COMPLETION = st.builds(Completion, HASH, HASH, LONG, st.sampled_from(Guarantee))
POSITIONS = st.sets(LONG, min_size=1, max_size=8).map(sorted)
SUBJECTS = st.one_of(
    st.tuples(HASH, st.just(RECORDS), POSITIONS),
    st.tuples(HASH, st.just(ORGANIZATION), st.just([])),
)

DOMAIN = Domain(31337, "0x" + "5F" * 20, "Foedus Unlearning")
ID, ATTESTOR, SALT = (bytes([n]) * 32 for n in (10, 11, 12))
ASKED = Request(*(bytes([n]) * 32 for n in (1, 2, 3)), RECORDS, 2**40)
DONE = Completion(bytes([4]) * 32, bytes([5]) * 32, 3, Guarantee.EXACT_REPLAY)


def struct(said):
    return tuple(said.values().values())


@pytest.mark.real
@settings(max_examples=40)
@given(request=REQUEST)
def test_a_request_has_the_id_and_the_digest_that_the_contract_gives_it(chain, request):
    contract = chain.contracts["Unlearning"]
    assert request.id == contract.read("idOf", struct(request))
    assert request.digest(chain.unlearning_domain) == contract.read(
        "requestDigest", struct(request)
    )


@pytest.mark.real
@settings(max_examples=40)
@given(completion=COMPLETION, id=HASH, attestor=HASH)
def test_a_completion_has_the_digest_that_the_contract_gives_it(chain, completion, id, attestor):
    by_contract = chain.contracts["Unlearning"].read(
        "completionDigest", id, attestor, struct(completion)
    )
    assert completion.digest(chain.unlearning_domain, id, attestor) == by_contract


@pytest.mark.real
@settings(max_examples=20)
@given(id=HASH)
def test_a_cancellation_has_the_digest_that_the_contract_gives_it(chain, id):
    by_contract = chain.contracts["Unlearning"].read("cancellationDigest", id)
    assert Cancellation(id).digest(chain.unlearning_domain) == by_contract


@pytest.mark.real
def test_signatures_count_under_the_domain_that_the_contract_tells(chain):
    _, name, version, chain_id, contract, _, _ = chain.contracts["Unlearning"].read("eip712Domain")
    assert chain.unlearning_domain == Domain(chain_id, contract, name)
    assert chain.unlearning_domain == chain.unlearning.domain
    assert version == "1"


@pytest.mark.parametrize(
    ("kind", "solidity"),
    [(UnlearningScope, "Scope"), (Guarantee, "Guarantee"), (RequestState, "State")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_choices_are_numbered_as_in_the_contract(kind, solidity):
    source = (hardhat_folder() / "contracts" / "Unlearning.sol").read_text(encoding="utf-8")
    [body] = re.findall(rf"enum {solidity} \{{([^}}]*)\}}", source)
    names = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", body).upper()
    assert [member.name for member in kind] == [name.strip() for name in names.split(",")]
    assert [member.value for member in kind] == list(range(len(kind)))


def other(value):
    """A value of the same size that is another one."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return type(value)(value + 1)


def changed(said):
    """Every way to change one field, by name."""
    return {name: replace(said, **{name: other(getattr(said, name))}) for name in vars(said)}


@pytest.mark.parametrize("field", changed(ASKED))
def test_another_request_has_another_id_and_digest_by_its(field):
    asked = changed(ASKED)[field]
    assert asked.id != ASKED.id
    assert asked.digest(DOMAIN) != ASKED.digest(DOMAIN)


@pytest.mark.parametrize("field", changed(DONE))
def test_another_completion_has_another_digest_by_its(field):
    done = changed(DONE)[field]
    assert done.digest(DOMAIN, ID, ATTESTOR) != DONE.digest(DOMAIN, ID, ATTESTOR)


def test_a_completion_is_of_one_request_and_by_one_attestor():
    digest = DONE.digest(DOMAIN, ID, ATTESTOR)
    assert DONE.digest(DOMAIN, other(ID), ATTESTOR) != digest
    assert DONE.digest(DOMAIN, ID, other(ATTESTOR)) != digest
    assert DONE.digest(DOMAIN, ATTESTOR, ID) != digest


def test_a_cancellation_is_of_one_request_and_nothing_else_that_is_signed():
    digest = Cancellation(ID).digest(DOMAIN)
    assert Cancellation(other(ID)).digest(DOMAIN) != digest
    assert len({digest, ASKED.digest(DOMAIN), DONE.digest(DOMAIN, ID, ATTESTOR)}) == 3


@pytest.mark.parametrize(
    "domain",
    [
        replace(DOMAIN, chain_id=31338),
        replace(DOMAIN, contract="0x" + "5E" * 20),
        replace(DOMAIN, name="Foedus Rounds"),
    ],
    ids=["another chain", "another contract", "another domain"],
)
def test_digests_are_others_in(domain):
    assert ASKED.digest(domain) != ASKED.digest(DOMAIN)
    assert DONE.digest(domain, ID, ATTESTOR) != DONE.digest(DOMAIN, ID, ATTESTOR)
    assert Cancellation(ID).digest(domain) != Cancellation(ID).digest(DOMAIN)


@given(REQUEST)
def test_the_id_can_be_had_without_the_request(request):
    assert request_id(**vars(request)) == request.id == request.values()["id"]


@given(size=st.integers(0, 80).filter(lambda size: size != 32), byte=st.integers(0, 255))
def test_a_hash_of_another_size_is_refused_not_padded(size, byte):
    wrong = bytes([byte]) * size
    for field in ("task", "organization", "subject"):
        with pytest.raises(ValueError, match=f"{field}: expected 32 bytes"):
            replace(ASKED, **{field: wrong})
        with pytest.raises(ValueError, match=f"{field}: expected 32 bytes"):
            request_id(**{**vars(ASKED), field: wrong})
    for field in ("evidence_root", "adapter"):
        with pytest.raises(ValueError, match=f"{field}: expected 32 bytes"):
            replace(DONE, **{field: wrong})
    with pytest.raises(ValueError, match="id: expected 32 bytes"):
        Cancellation(wrong)
    with pytest.raises(ValueError, match="id: expected 32 bytes"):
        DONE.digest(DOMAIN, wrong, ATTESTOR)
    with pytest.raises(ValueError, match="organization: expected 32 bytes"):
        DONE.digest(DOMAIN, ID, wrong)
    with pytest.raises(ValueError, match="salt: expected 32 bytes"):
        subject_commitment(wrong, RECORDS, [1])


@pytest.mark.parametrize("value", [-1, 2**64, True, 1.0, "1", None])
def test_a_number_that_does_not_fit_is_refused(value):
    with pytest.raises(ValueError, match=r"deadline: .*, expected a whole number of 64 bits"):
        replace(ASKED, deadline=value)
    with pytest.raises(ValueError, match=r"first_affected_round: .*, expected a whole number"):
        replace(DONE, first_affected_round=value)


@pytest.mark.parametrize("value", [0, 1, 4, True, "RECORDS", None, RequestState.OPEN])
def test_what_is_no_scope_and_no_guarantee_is_refused(value):
    with pytest.raises(ValueError, match=r"scope: .*, expected one of RECORDS, ORGANIZATION"):
        replace(ASKED, scope=value)
    with pytest.raises(ValueError, match=r"guarantee: .*, expected one of EXACT_ISOLATED, "):
        replace(DONE, guarantee=value)
    with pytest.raises(ValueError, match=r"scope: .*, expected one of RECORDS, ORGANIZATION"):
        subject_commitment(SALT, value, [])


@given(SUBJECTS)
def test_a_subject_is_committed_to_by_abi_encode_written_out_word_by_word(subject):
    salt, scope, positions = subject
    purpose = b"foedus: what is to be forgotten, version 1"
    words = [4 * 32, int(scope), int.from_bytes(salt), 7 * 32, len(purpose)]
    encoded = b"".join(word.to_bytes(32) for word in words) + purpose.ljust(64, b"\0")
    encoded += b"".join(word.to_bytes(32) for word in (len(positions), *positions))
    assert subject_commitment(salt, scope, positions) == keccak(encoded)


def test_the_commitment_to_an_example_stays_what_it_was():
    # It stands on the chain: computed otherwise, old requests could no longer be opened.
    pinned = "906b09f8f8845c84ba069995536b27aa13e42d197d319d4d1a22566a08396d4b"
    assert subject_commitment(SALT, RECORDS, (1, 5, 2**64 - 1)).hex() == pinned


@given(SUBJECTS, SUBJECTS)
def test_two_subjects_have_two_commitments(one, two):
    assert (subject_commitment(*one) == subject_commitment(*two)) == (one == two)


@given(salt=HASH, positions=POSITIONS)
def test_a_commitment_binds_salt_and_every_position(salt, positions):
    committed = subject_commitment(salt, RECORDS, positions)
    assert committed == subject_commitment(salt, RECORDS, tuple(positions))
    assert committed != subject_commitment(other(salt), RECORDS, positions)
    assert committed != subject_commitment(salt, ORGANIZATION, [])
    for left_out in range(len(positions)):
        fewer = positions[:left_out] + positions[left_out + 1 :]
        assert not fewer or committed != subject_commitment(salt, RECORDS, fewer)


#: By name: what is made of the positions 1, 5 and 9 of some records, and what is said of it.
SPOILED = {
    "one twice": ([1, 5, 5, 9], "positions: 5 after 5, expected strictly ascending"),
    "in another order": ([1, 9, 5], "positions: 5 after 9, expected strictly ascending"),
    "descending": ([9, 5, 1], "positions: 5 after 9, expected strictly ascending"),
    "a negative one": ([-1, 5, 9], "positions: -1, expected a whole number of 64 bits"),
    "one of 65 bits": ([1, 5, 2**64], "expected a whole number of 64 bits"),
    "one that is no number": ([1, 5, "9"], "positions: '9', expected a whole number"),
    "one that is a fraction": ([1, 5, 9.0], "positions: 9.0, expected a whole number"),
    "one that is a truth": ([True, 5, 9], "positions: True, expected a whole number"),
    "none at all": ([], "positions: 0 for the scope RECORDS, expected some for RECORDS"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_records_are_not_committed_to_with(name):
    positions, said = SPOILED[name]
    subject_commitment(SALT, RECORDS, [1, 5, 9])
    with pytest.raises(ValueError, match=said):
        subject_commitment(SALT, RECORDS, positions)


@given(salt=HASH, positions=POSITIONS)
def test_a_whole_organization_is_not_committed_to_by_positions(salt, positions):
    with pytest.raises(ValueError, match=f"positions: {len(positions)} for the scope ORGANIZATION"):
        subject_commitment(salt, ORGANIZATION, positions)
