"""What can go wrong between Foedus and the public chain, each as a type of its own."""

from collections.abc import Mapping


class ChainError(Exception):
    """The public chain did not do what was asked; the message says what to do."""


class NodeUnreachableError(ChainError):
    """No node answered at the RPC address."""


class WrongChainError(ChainError):
    """The node serves another chain than the one configured."""


class ContractMissingError(ChainError):
    """No contract, or another one, lies at the address: most often, the chain was reset."""


class ChainWasResetError(ChainError):
    """The chain starts from another genesis block than the one deployed on."""


class TransactionFailedError(ChainError):
    """A transaction was not sent, or not included in time; nothing is known to have changed."""


class TransactionRevertedError(ChainError):
    """The contract refused a call.

    Parameters
    ----------
    call : str
        Name of the contract function.
    error : str
        Name of the contract's custom error, or the node's own words where it gave none.
    arguments : mapping of str to object
        The custom error's values by parameter name; empty where there are none.
    """

    def __init__(self, call: str, error: str, arguments: Mapping[str, object]) -> None:
        self.call = call
        self.error = error
        self.arguments = dict(arguments)
        values = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments.items())
        super().__init__(f"{call} was refused by the contract: {error}({values})")


class RecordMismatchError(ChainError):
    """The chain already holds something else than what was to be written."""


class ArtifactError(ChainError):
    """A shipped contract artifact is missing, malformed, or not what the sources compile to."""


class ToolchainMissingError(ChainError):
    """Hardhat or its packages were not found on this machine."""


class NodeError(ChainError):
    """The managed node could not be started or stopped."""


class ChainFileError(ChainError):
    """A file kept about a chain holds something else than was written to it."""


class KeyFileError(ChainError):
    """A key file is missing, readable by others, too weak, or does not open."""


def _shown(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
