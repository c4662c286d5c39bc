"""Another organization joins later: proposed, approved by members, made on a real chain."""

import json
import time

import pytest
from eth_account import Account

from blockchain.membership import Change, ChangeKind
from blockchain.merkle import organization_id
from strategies.joined import Joined
from strategies.membership_change import Admission, Approval, ChangeError, execute
from strategies.node_key import make_node_key, node_key_hash, public_key_of
from tests.signing_cases import NAMES, account_of

pytestmark = pytest.mark.real
pytest_plugins = ["tests.chain_fixtures"]

CLINIC = Account.from_key(b"\x07" * 32)


@pytest.fixture(scope="module")
def joined(tmp_path_factory) -> Joined:
    return Joined(
        organization="clinic",
        key=CLINIC.address,
        node_key=public_key_of(make_node_key(tmp_path_factory.mktemp("node"))),
        node=7,
        invitation="ab" * 32,
        signature="cd" * 65,
    )


@pytest.fixture
def proposal(joined, chain, tmp_path) -> Admission:
    """A proposal as a member gets it: by a file."""
    Admission.of(joined, chain.members).write(tmp_path / "admit-clinic.json")
    return Admission.read(tmp_path / "admit-clinic.json")


def members(chain) -> list[str]:
    """Names of the members, by what the registry holds."""
    known = {organization_id(n): n for n in (*NAMES, "cinema", "microblog", "shop")}
    return [known[one] for one in chain.members.members() if one in known]


def approvals(proposal, chain, tmp_path, count) -> list[Approval]:
    found = []
    for name in members(chain)[:count]:
        Approval.signed(proposal, chain.members, name, account_of(name)).write(tmp_path / name)
        found.append(Approval.read(tmp_path / name))
    return found


def test_what_is_approved_is_what_the_organization_answered(proposal, joined, chain):
    change = proposal.change
    assert change.organization == organization_id("clinic")
    assert change.account == CLINIC.address
    assert change.node_key == node_key_hash(joined.node_key)
    assert change.nonce == chain.members.next_nonce()
    assert change.threshold == (len(chain.members.members()) + 1) // 2 + 1


def test_whoever_is_no_member_or_has_another_key_cannot_approve(proposal, chain):
    for name, account in (("clinic", CLINIC), (members(chain)[0], CLINIC)):
        with pytest.raises(ChangeError, match="is not the key of"):
            Approval.signed(proposal, chain.members, name, account)


def test_too_few_approvals_make_nothing_and_each_that_does_not_count_is_named(
    proposal, chain, tmp_path
):
    [one] = approvals(proposal, chain, tmp_path, 1)
    needed = chain.members.threshold()
    with pytest.raises(ChangeError, match=f"1 of {needed} members that it takes approved$"):
        execute(proposal, [one, one, one], chain.members)
    other = proposal.model_copy(update={"key": account_of("thief").address})
    forged = Approval.signed(other, chain.members, one.member, account_of(one.member))
    unsound = one.model_copy(update={"signature": "00" * 65})
    for bad, said in ((forged, "not its signature of this change"), (unsound, "with v = 0")):
        with pytest.raises(ChangeError, match=f"0 of {needed} .*{one.member}: .*{said}"):
            execute(proposal, [bad], chain.members)
    assert not chain.members.member(organization_id("clinic")).is_member


def test_a_proposal_that_is_late_or_has_another_number_is_refused(proposal, chain, tmp_path):
    for change, said in (
        ({"nonce": proposal.nonce + 1}, "the next one is"),
        ({"deadline": int(time.time()) - 1}, "its time is over"),
        ({"organization": members(chain)[0]}, "is a member already"),
    ):
        with pytest.raises(ChangeError, match=said):
            proposal.model_copy(update=change).check(chain.members)


def faults(proposal):
    document = proposal.model_dump()
    for key in document:
        yield {k: v for k, v in document.items() if k != key}
    for key, value in (
        ("organization", "../x"),
        ("key", "0x12"),
        ("node_key", "ssh-rsa AAAA"),
        ("threshold", 0),
        ("nonce", -1),
        ("deadline", "soon"),
        ("more", 1),
    ):
        yield {**document, key: value}
    yield [document]


def test_what_is_no_proposal_is_refused_in_one_line(proposal, tmp_path):
    for document in faults(proposal):
        (tmp_path / "bad.json").write_text(json.dumps(document))
        with pytest.raises(ChangeError) as caught:
            Admission.read(tmp_path / "bad.json")
        assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "bad.json").write_bytes(b" " * 20_000)
    with pytest.raises(ChangeError, match="20000 bytes"):
        Admission.read(tmp_path / "bad.json")
    with pytest.raises(ChangeError, match="No such file"):
        Approval.read(tmp_path / "nothing")


@pytest.fixture
def as_it_was(chain):
    """The registry is the whole session's: whoever became a member here is none afterwards."""
    threshold = chain.members.threshold()
    yield
    change = Change(
        ChangeKind.REMOVE_MEMBER,
        nonce=chain.members.next_nonce(),
        deadline=int(time.time()) + 600,
        organization=organization_id("clinic"),
        threshold=threshold,
    )
    signers = members(chain)[: chain.members.threshold()]
    signed = {organization_id(n): chain.members.approve(change, account_of(n)) for n in signers}
    chain.members.execute(change, signed)


@pytest.mark.usefixtures("as_it_was")
def test_with_enough_approvals_it_is_a_member_with_its_own_keys(proposal, joined, chain, tmp_path):
    needed = chain.members.threshold()
    found = approvals(proposal, chain, tmp_path, needed)
    execute(proposal, found, chain.members)
    member = chain.members.member(organization_id("clinic"))
    assert member.is_member
    assert (member.key, member.node_key) == (CLINIC.address, joined.node_key_hash)
    assert chain.members.threshold() == proposal.threshold
    with pytest.raises(ChangeError, match="is a member already"):
        execute(proposal, found, chain.members)
