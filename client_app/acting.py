"""What every part of an organization works with: who it is, its settings, the chain, its key."""

from eth_account.signers.local import LocalAccount

from blockchain.public_chain import PublicChain
from strategies.settings import RunSettings


class ActingOrganization:
    """One organization in one process.

    Parameters
    ----------
    name : str
        Its name.
    settings : RunSettings
        The run's settings.
    chain : PublicChain
        A connection that can read.
    account : LocalAccount
        The organization's signing key.
    agreed : RunSettings, optional
        The settings that the terms on chain must be those of, where the organization works by
        others (its own data); else ``settings``.
    """

    def __init__(
        self,
        name: str,
        settings: RunSettings,
        chain: PublicChain,
        account: LocalAccount,
        *,
        agreed: RunSettings | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._agreed = agreed or settings
        self._chain = chain
        self._account = account
