"""Where organizations answer their invitations: what the coordinator keeps of it.

    <home>/coordinator/
        invitations/<name>.json   whom it invited: hash of the token, until when
        joined/<name>.json        who answered: see :mod:`strategies.joined`

The SuperLink learns a node's key by the same answer by which the coordinator learns the key that
signs its updates: neither stands for an organization without the other.
"""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from strategies.invitation import InvitationError, Invitations, token_hash
from strategies.joined import Joined, JoinedOrganizations
from strategies.joining import Joining, JoiningError
from strategies.node_key import node_key_hash


class Reception:
    """Takes answers to invitations.

    Parameters
    ----------
    folder : Path
        ``<home>/coordinator``.
    chain_id : int
        The chain on which keys count.
    register : callable
        Has the SuperLink know a node by its public key and its organization's name; returns
        Flower's id of it, the same one where it knows the key already.
    """

    def __init__(self, folder: Path, chain_id: int, register: Callable[[str, str], int]) -> None:
        self._folder = folder
        self._invitations = Invitations(folder)
        self._joined = JoinedOrganizations(folder / "joined")
        self._chain_id = chain_id
        self._register = register

    def join(self, content: bytes) -> Joined:
        """Take an answer; the same one again is answered as before.

        Raises
        ------
        JoiningError
            If it is malformed, unsigned, nobody's who was invited, or gives a key that another
            organization has given.
        """
        answer = Joining.read(content, chain_id=self._chain_id)
        with FileLock(self._folder / "reception.lock"):
            invitation = token_hash(answer.token).hex()
            there = self._joined.read(answer.organization)
            if there is not None and there.invitation == invitation:
                if (there.key, there.node_key) != (answer.key, answer.node_key):
                    raise JoiningError(
                        f"{answer.organization}: its invitation was answered already, with other "
                        "keys: ask the coordinator for a new one"
                    )
                return there
            try:
                self._invitations.check(answer.organization, invitation)
            except InvitationError as error:
                raise JoiningError(str(error)) from None
            self._check_new(answer)
            joined = Joined(
                organization=answer.organization,
                key=answer.key,
                node_key=answer.node_key,
                node=self._register(answer.organization, answer.node_key),
                invitation=invitation,
                signature=answer.signature,
            )
            self._joined.write(joined)
        return joined

    def _check_new(self, answer: Joining) -> None:
        for other in self._joined:
            if other.organization == answer.organization:
                continue
            if answer.key == other.key or answer.node_key_hash == node_key_hash(other.node_key):
                raise JoiningError(
                    f"{answer.organization}: {other.organization} has given one of its keys already"
                )
