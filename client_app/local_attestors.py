"""Attestors whose keys lie under one home, asked without Flower: for rounds left unattested."""

from collections.abc import Callable, Mapping
from typing import Any

from eth_account.signers.local import LocalAccount
from flwr.app import RecordDict

from blockchain.public_chain import PublicChain
from client_app.request import CoordinatorError
from strategies.attesting import Ask, Attesting
from strategies.protocol import ProtocolError
from strategies.recomputation import EvidenceError
from strategies.round_notary import RoundNotary
from strategies.round_terms import Participant
from strategies.run_accounts import organization_account
from strategies.run_archive import RunArchive
from strategies.scores import ScoreTable
from strategies.settings import RunSettings
from strategies.signed_update import TaskContext


def attestors_here(settings: RunSettings, chain: PublicChain) -> Ask:
    """Return how attestors under the run's home are asked: each makes the round again itself."""

    def ask(_: int, contents: Mapping[str, RecordDict]) -> dict[str, RecordDict | str]:
        # Loads torch.
        from client_app.attestor import Attestor  # noqa: PLC0415

        answers: dict[str, RecordDict | str] = {}
        for name, content in contents.items():
            attestor = Attestor(name, settings, chain, organization_account(settings, name))
            try:
                answers[name] = attestor.attest(content)
            except (ProtocolError, CoordinatorError, EvidenceError) as error:
                answers[name] = f"{type(error).__name__}: {error}"
        return answers

    return ask


def attest_rounds(
    archive: RunArchive,
    chain: PublicChain,
    account: LocalAccount,
    rounds: list[int],
    attestors: list[str],
    ask: Ask,
    *,
    exact: bool,
    listener: Callable[[str, Mapping[str, Any]], None],
) -> dict[int, ScoreTable | None]:
    """Have sealed rounds of a run attested, in order, and put that on the chain.

    Parameters
    ----------
    archive : RunArchive
        The run on disk.
    chain : PublicChain
        The connection, with the account that pays.
    account : LocalAccount
        That account.
    rounds : list of int
        The sealed rounds.
    attestors : list of str
        Who is asked.
    ask : callable
        How, see `strategies.attesting.Ask`.
    exact : bool
        Whether every processor computes the rule's state alike.
    listener : callable
        Told of every event.

    Returns
    -------
    dict of int to ScoreTable or None
        The scores by round; ``None`` where too few signed.
    """
    task = bytes.fromhex(archive.read_run()["task"])
    context = TaskContext(task, chain.task(task).terms, chain.domain)
    attesting = Attesting(
        archive=archive,
        notary=RoundNotary(chain, context, account),
        exact=exact,
        deadline=0.0,
        listener=listener,
    )
    # No node answers for them here.
    attesting.admit(Participant(name, 0, 0) for name in attestors)
    return {number: attesting.attest_by(number, ask) for number in rounds}
