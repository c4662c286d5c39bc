"""Answers to invitations: who may join, with which keys, and what the coordinator keeps of it."""

import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from eth_account import Account

from server_app.reception import Reception
from strategies.invitation import Invitation, Invitations, new_token
from strategies.joined import Joined, JoinedError, JoinedOrganizations
from strategies.joining import Joining, JoiningError
from strategies.node_key import make_node_key, public_key_of

CHAIN = 31337


@pytest.fixture(scope="module")
def node_keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    return [public_key_of(make_node_key(folder / str(n))) for n in range(3)]


class SuperLink:
    """Notes which nodes it was told of."""

    def __init__(self):
        self.nodes: list[tuple[str, str]] = []
        self.away = False

    def register(self, organization, node_key):
        if self.away:
            raise ConnectionError("the SuperLink is away")
        if (organization, node_key) not in self.nodes:
            self.nodes.append((organization, node_key))
        return 100 + self.nodes.index((organization, node_key))


@pytest.fixture
def superlink():
    return SuperLink()


@pytest.fixture
def reception(tmp_path, superlink):
    return Reception(tmp_path / "coordinator", CHAIN, superlink.register)


@pytest.fixture
def kept(tmp_path):
    return JoinedOrganizations(tmp_path / "coordinator" / "joined")


@pytest.fixture
def invitations(tmp_path):
    return Invitations(tmp_path / "coordinator")


def invited(invitations, organization="cinema", *, seconds=600) -> str:
    """Invite an organization, and return its token."""
    token = new_token()
    invitations.note(
        Invitation(
            organization=organization,
            address="127.0.0.1:1",
            authority="-----BEGIN CERTIFICATE-----\n",
            chain_id=CHAIN,
            token=token,
            expires=int(time.time()) + seconds,
        )
    )
    return token


def answer(token, node_key, organization="cinema", secret=1) -> bytes:
    account = Account.from_key(bytes([secret]) * 32)
    return (
        Joining.signed(
            account, organization=organization, node_key=node_key, token=token, chain_id=CHAIN
        )
        .model_dump_json()
        .encode()
    )


def test_an_answer_makes_node_and_key_known_together(
    reception, invitations, superlink, kept, node_keys, tmp_path
):
    token = invited(invitations)
    joined = reception.join(answer(token, node_keys[0]))
    assert joined.node == 100
    assert superlink.nodes == [("cinema", node_keys[0])]
    assert kept.read("cinema") == joined
    assert list(kept) == [joined]
    for path in (tmp_path / "coordinator").rglob("*.json"):
        assert token not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_answer_again_is_answered_as_before(reception, invitations, superlink, node_keys):
    content = answer(invited(invitations, seconds=600), node_keys[0])
    assert reception.join(content) == reception.join(content)
    assert len(superlink.nodes) == 1


def test_what_was_cut_off_before_it_was_written_is_asked_again(
    reception, invitations, superlink, kept, node_keys
):
    content = answer(invited(invitations), node_keys[0])
    superlink.away = True
    with pytest.raises(ConnectionError):
        reception.join(content)
    assert kept.read("cinema") is None
    superlink.away = False
    assert reception.join(content).node == 100


@pytest.mark.parametrize("seconds", [-1, -600])
def test_an_invitation_that_has_expired_is_void(
    reception, invitations, superlink, node_keys, seconds
):
    with pytest.raises(JoiningError, match="has expired"):
        reception.join(answer(invited(invitations, seconds=seconds), node_keys[0]))
    assert superlink.nodes == []


def test_a_newer_invitation_takes_the_place_of_the_one_before(reception, invitations, node_keys):
    first = invited(invitations)
    second = invited(invitations)
    with pytest.raises(JoiningError, match="not the invitation"):
        reception.join(answer(first, node_keys[0]))
    assert reception.join(answer(second, node_keys[0]))


def test_nobody_joins_without_an_invitation_or_by_another_ones(
    reception, invitations, superlink, node_keys
):
    token = invited(invitations, "shop")
    for organization, given in (("cinema", token), ("cinema", new_token()), ("shop", new_token())):
        with pytest.raises(JoiningError, match="not the invitation"):
            reception.join(answer(given, node_keys[0], organization))
    assert superlink.nodes == []


def test_an_invitation_is_good_once(reception, invitations, superlink, node_keys):
    token = invited(invitations)
    reception.join(answer(token, node_keys[0]))
    for content in (answer(token, node_keys[1]), answer(token, node_keys[0], secret=2)):
        with pytest.raises(JoiningError, match="was answered already"):
            reception.join(content)
    assert superlink.nodes == [("cinema", node_keys[0])]


def test_two_organizations_do_not_share_a_key(reception, invitations, superlink, node_keys):
    reception.join(answer(invited(invitations), node_keys[0]))
    token = invited(invitations, "shop")
    for content in (
        answer(token, node_keys[0], "shop", secret=2),
        answer(token, node_keys[1], "shop", secret=1),
    ):
        with pytest.raises(JoiningError, match="cinema has given one of its keys already"):
            reception.join(content)
    assert reception.join(answer(token, node_keys[1], "shop", secret=2)).node == 101


def test_of_answers_at_once_one_counts(reception, invitations, kept, node_keys):
    token = invited(invitations)
    contents = [answer(token, key) for key in node_keys]

    def ask(content):
        try:
            return reception.join(content)
        except JoiningError:
            return None

    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(ask, contents))
    assert [a for a in answers if a] == [kept.read("cinema")]


def test_a_signature_of_another_key_is_refused(reception, invitations, superlink, node_keys):
    document = json.loads(answer(invited(invitations), node_keys[0]))
    other = json.loads(answer(document["token"], node_keys[0], secret=2))
    forged = json.dumps({**document, "signature": other["signature"]}).encode()
    with pytest.raises(JoiningError, match="expected the key"):
        reception.join(forged)
    assert superlink.nodes == []


def test_who_joined_is_read_back_whole_and_an_altered_file_is_named(
    reception, invitations, kept, node_keys, tmp_path
):
    joined = reception.join(answer(invited(invitations), node_keys[0]))
    assert kept.read("cinema") == joined
    assert isinstance(joined, Joined)
    assert joined.key == Account.from_key(b"\x01" * 32).address
    assert joined.node_key == node_keys[0]
    [path] = (tmp_path / "coordinator" / "joined").glob("*.json")
    for altered in ("{", "[]", "{}", '{"more": 1}'):
        path.write_text(altered)
        with pytest.raises(JoinedError, match=r"cinema\.json was altered"):
            list(kept)
