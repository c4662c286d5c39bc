"""An attestor that vouches for a request carried out: checks the evidence, and signs."""

from eth_account.signers.local import LocalAccount
from flwr.app import RecordDict

from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.typed_data import sign_digest
from client_app.receipt_check import check_evidence
from client_app.request import CoordinatorError, check_terms
from strategies import protocol
from strategies.lineage import Lineage
from strategies.protocol import ProtocolError
from strategies.settings import RunSettings
from strategies.source_hash import source_hash
from unlearning.receipt import Evidence, ReceiptError, read_evidence


def vouch(
    content: RecordDict,
    name: str,
    settings: RunSettings,
    chain: PublicChain,
    account: LocalAccount,
) -> RecordDict:
    """Sign that a request was carried out as the evidence says.

    That every round made again is what its updates make was attested round by round; here the rest
    is held against the chain: the request, the organization's word on its rounds, the terms, and
    that the run before is left from a round before the first affected one.

    Parameters
    ----------
    content : RecordDict
        The coordinator's message.
    name : str
        The attestor.
    settings : RunSettings
        The settings of the run after.
    chain : PublicChain
        A connection that can read.
    account : LocalAccount
        The attestor's signing key.

    Raises
    ------
    ProtocolError, CoordinatorError
        If the message is malformed or does not hold: then nothing is signed.
    """
    header = content.config_records.get(protocol.HEADER)
    if header is None:
        raise ProtocolError("a message without a header")
    task, run = protocol.digest(header, "task"), protocol.text(header, "run")
    check_terms(chain, task, run, settings)
    try:
        evidence = read_evidence(protocol.data(header, "evidence"))
        first = _check(evidence, task, settings, chain)
    except ReceiptError as error:
        raise CoordinatorError(f"the evidence does not hold: {error}") from error
    identifier = bytes.fromhex(evidence.request.id)
    digest = evidence.completion(first).digest(
        chain.unlearning_domain, identifier, organization_id(name)
    )
    signature = sign_digest(digest, account)
    return RecordDict({protocol.HEADER: protocol.header_record({"signature": signature})})


def _check(evidence: Evidence, task: bytes, settings: RunSettings, chain: PublicChain) -> int:
    """Hold evidence against chain and settings; return the first affected round for the chain."""
    stored = chain.unlearning.request_of(bytes.fromhex(evidence.request.id))
    if stored is None:
        raise ReceiptError("nobody brought such a request")
    check_evidence(evidence, stored, chain)
    if evidence.code != source_hash():
        raise ReceiptError("the coordinator runs another program than this attestor")
    if bytes.fromhex(evidence.after.task) != task:
        raise ReceiptError("the run after is another one than the message is about")
    if evidence.label == "NOTHING_TO_FORGET":
        return 0
    asked = evidence.request.organization
    if evidence.lineage != settings.lineage or stored.request.id not in settings.request_ids:
        raise ReceiptError("the run after does not carry out this request by its terms")
    leaves = asked in settings.leaver_names
    if evidence.label == "EXACT_REPLAY":
        holds = not leaves and not settings.unlearners
    elif evidence.label == "EXACT_ISOLATED":
        holds = leaves and settings.isolation
    else:
        holds = asked in settings.first_rounds.unlearners and leaves == (
            evidence.request.scope == "organization"
        )
    if not holds:
        raise ReceiptError(f"the run's terms are not those of a run that is {evidence.label}")
    return Lineage.parse(evidence.lineage).own_number(stored.request.task, min(evidence.rounds))
