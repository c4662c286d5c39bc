"""Errors of Foedus' own: each says what is wrong. Any other is a mistake in the code."""
# ruff: noqa: PLC0415


def own_errors() -> tuple[type[Exception], ...]:
    """Return the types, looked up only when something was raised: importing these costs seconds."""
    from blockchain.errors import ChainError
    from blockchain.private.errors import LedgerError
    from client_app.agent.agent_file import AgentError
    from client_app.cli.local_superlink import SuperLinkError
    from client_app.deployment.certificates import CertificateError
    from client_app.deployment.commented_toml import ConfigurationError
    from client_app.deployment.door import DoorError
    from client_app.deployment.processes import ProcessError
    from client_app.deployment.start_node import NotReadyError
    from client_app.key_rotation import RotationError
    from client_app.leaving import LeavingError
    from client_app.own_requests import RequestError
    from llm.adapters import AdapterError
    from llm.cached_folder import CacheError
    from llm.model_source import BaseModelError
    from llm.registry import RegistryError
    from llm.rows import DataError
    from strategies.challenges import ChallengeError
    from strategies.deployed_members import MembersError
    from strategies.federation_word import FederationWordError
    from strategies.invitation import InvitationError
    from strategies.joined import JoinedError
    from strategies.membership_change import ChangeError
    from strategies.node_key import NodeKeyError
    from strategies.run_archive import ArchiveError
    from strategies.settings import SettingsError

    return (
        ChainError,
        LedgerError,
        SuperLinkError,
        CertificateError,
        ConfigurationError,
        DoorError,
        ProcessError,
        NotReadyError,
        LeavingError,
        MembersError,
        FederationWordError,
        InvitationError,
        JoinedError,
        NodeKeyError,
        ChangeError,
        AdapterError,
        AgentError,
        BaseModelError,
        CacheError,
        ChallengeError,
        DataError,
        RegistryError,
        RequestError,
        RotationError,
        ArchiveError,
        SettingsError,
    )
