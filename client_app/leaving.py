"""An organization leaves the federation for good: looked at first, then signed and brought.

What is asked of the contract before it is the very call that is sent after it, so that no rule of
the registry is written here a second time.
"""

from typing import Final

from eth_account.signers.local import LocalAccount

from blockchain.errors import TransactionRevertedError
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.sender import TransactionReceipt
from client_app.ledger_opening import open_ledger
from client_app.ledger_view import ledgers_here
from client_app.own_request import Standing
from client_app.own_requests import known_tasks, own_requests
from strategies.open_requests import open_requests
from strategies.run_accounts import organization_account, organization_chain
from strategies.settings import RunSettings

#: So long may the signed departure travel.
_SIGNATURE_SECONDS: Final = 600

#: What leaving does and does not do; ``{name}`` stands for the organization.
CONSEQUENCES: Final = (
    "{name} leaves the federation for good. From then on no round takes it, its node is not heard "
    "and its ledger is not anchored any more. What it trained stays in the model unless its data "
    "is withdrawn first (`foedus unlearn --org {name} --withdraw`) and that was carried out. Its "
    "ledger, keys and records stay here, and rewards that it has earned can still be claimed. It "
    "comes back only with a new key, by a change that members sign."
)


class LeavingError(RuntimeError):
    """An organization cannot leave, or should not yet; one line says why."""


def check_leaving(
    settings: RunSettings, chain: PublicChain, organization: str, *, anyway: bool = False
) -> None:
    """Make sure that an organization can leave now, before anybody is asked or anything is sent.

    Parameters
    ----------
    settings : RunSettings
        Name home and chain.
    chain : PublicChain
        A connection that can read.
    organization : str
        Who leaves.
    anyway : bool
        Whether it leaves also with open requests to forget.

    Raises
    ------
    LeavingError
        If it is no member, has left already, the key here is not its own, too few members or
        attestors would be left, or it has open requests.
    SettingsError
        If there is no signing key here.
    """
    account, who = organization_account(settings, organization), organization_id(organization)
    member = chain.members.member(who)
    if member.left_in is not None:
        raise LeavingError(f"{organization} has left already, in block {member.left_in}")
    if not member.is_member:
        raise LeavingError(f"{organization} is no member: there is nothing to leave")
    if member.key != account.address:
        raise LeavingError(
            f"the key of {organization} on the chain is {member.key}, the one here "
            f"{account.address}: only its holder can leave"
        )
    try:
        chain.members.check_departure(who, account, chain.now() + _SIGNATURE_SECONDS)
    except TransactionRevertedError as error:
        raise LeavingError(f"{organization} cannot leave now: {_in_words(error)}") from None
    if not anyway and (found := _still_open(settings, chain, organization, account)):
        named = ", ".join(f"0x{one.hex()[:10]}…" for one in found)
        raise LeavingError(
            f"{organization} has asked for something to be forgotten that is open still ({named}), "
            "and is needed for it: wait until `foedus unlearn status` says that it is completed, "
            "or leave --anyway"
        )


def leave(settings: RunSettings, chain: PublicChain, organization: str) -> TransactionReceipt:
    """Sign an organization's departure with its key, and bring it to the chain from its account.

    Parameters
    ----------
    settings, chain, organization
        As in :func:`check_leaving`, which is to be called before.

    Raises
    ------
    LeavingError
        If the contract refuses it.
    ChainError
        If the transaction does not land; the next `leave` says whether it has after all.
    """
    account, paying = (
        organization_account(settings, organization),
        organization_chain(settings, chain, organization),
    )
    deadline = chain.now() + _SIGNATURE_SECONDS
    try:
        return paying.members.depart(organization_id(organization), account, deadline)
    except TransactionRevertedError as error:
        raise LeavingError(f"{organization} cannot leave now: {_in_words(error)}") from None


def _in_words(error: TransactionRevertedError) -> str:
    said = error.arguments
    match error.error:
        case "RegistryThresholdOutOfRange":
            return (
                f"a change of the registry needs {said['threshold']} members, and "
                f"{said['members']} would be left; members have to admit another first "
                f"(`foedus members admit`) ({error.error})"
            )
        case "RegistryAttestorThresholdOutOfRange":
            return (
                f"it is an attestor, an attestation needs {said['threshold']} of them, and "
                f"{said['attestors']} would be left; members have to name another first "
                f"({error.error})"
            )
        case _:
            return str(error)


def _still_open(
    settings: RunSettings, chain: PublicChain, organization: str, account: LocalAccount
) -> list[bytes]:
    """Return the ids of its requests that are open on the chain, or wait to be brought there."""
    tasks, who = known_tasks(settings.home_path, organization), organization_id(organization)
    found = {
        one.request.id for one in open_requests(chain, tasks) if one.request.organization == who
    }
    if organization in ledgers_here(settings.home_path):
        now = chain.now()
        with open_ledger(settings.home_path, organization, account, chain) as ledger:
            asked = own_requests(ledger, chain, organization, tasks)
        found |= {own.id for own in asked if own.standing(now) is Standing.WAITING}
    return sorted(found)
