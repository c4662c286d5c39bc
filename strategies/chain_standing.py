"""Where a chain stands: the newest run's last sealed and last final round, pausing, balances."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from blockchain.chain_records import Phase
from blockchain.keys import account_address
from blockchain.public_chain import PublicChain
from strategies.finality import finality
from strategies.run_accounts import COORDINATOR_KEY, has_coordinator_key
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings

#: Below this, a coordinator is told that it has little, wei: some hundred seals at 1 gwei a gas.
LOW_WEI: Final = 2 * 10**16


@dataclass(frozen=True)
class RunStanding:
    """How far a run is.

    Parameters
    ----------
    name : str
        The run's.
    last_sealed, last_final : int
        Rounds of its current branch; 0 before the first. Finality lags behind.
    next_final : int or None
        The round that becomes final next; ``None`` where there is none.
    final_from : int or None
        Second since the epoch from which it may.
    """

    name: str
    last_sealed: int
    last_final: int
    next_final: int | None
    final_from: int | None


@dataclass(frozen=True)
class Balance:
    """What an account has; wei as text, for they outgrow JSON's integers."""

    address: str
    wei: str
    low: bool


@dataclass(frozen=True)
class ChainStanding:
    """Where a chain stands.

    Parameters
    ----------
    run : RunStanding or None
        The newest run, if it opened a task.
    paused : bool
        Whether opening rounds is paused.
    coordinator : Balance or None
        The coordinator's, if its key lies under this home.
    """

    run: RunStanding | None
    paused: bool
    coordinator: Balance | None

    def to_json(self) -> dict[str, Any]:
        """Lay it out for ``--json``."""
        return asdict(self)


def chain_standing(
    chain: PublicChain, settings: RunSettings, archive: RunArchive | None
) -> ChainStanding:
    """Read where a chain stands.

    Parameters
    ----------
    chain : PublicChain
        A connection that can read.
    settings : RunSettings
        Name the home.
    archive : RunArchive or None
        The newest run, if there is one.
    """
    return ChainStanding(
        run=None if archive is None else _run_standing(chain, archive),
        paused=chain.paused(),
        coordinator=_balance(chain, settings),
    )


def _run_standing(chain: PublicChain, archive: RunArchive) -> RunStanding | None:
    task = archive.read_run().get("task")
    if not isinstance(task, str):
        return None
    on_chain = chain.task(bytes.fromhex(task))
    standing = finality(on_chain, chain.rounds(on_chain.task), chain.now())
    ahead = [s for s in standing.values() if s.phase is Phase.SEALED and s.earliest is not None]
    return RunStanding(
        name=archive.name,
        last_sealed=on_chain.head_round,
        last_final=on_chain.last_final_round,
        next_final=ahead[0].round if ahead else None,
        final_from=ahead[0].earliest if ahead else None,
    )


def _balance(chain: PublicChain, settings: RunSettings) -> Balance | None:
    if not has_coordinator_key(settings):
        return None
    address = account_address(settings.home_path / "chain" / "keys", COORDINATOR_KEY)
    wei = chain.balance(address)
    return Balance(address, str(wei), wei < LOW_WEI)
