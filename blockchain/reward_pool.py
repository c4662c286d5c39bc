"""The contract ``Rewards``: a funded pool a task, claimed under the root of a final round."""

from collections.abc import Sequence

from blockchain.contract import Contract
from blockchain.sender import TransactionReceipt


class RewardPool:
    """What tasks pay.

    Parameters
    ----------
    contract : Contract
        The contract, with an account where something is to be sent.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def fund(self, task: bytes, wei: int) -> TransactionReceipt | None:
        """See to it that a task's pool was given so much in all.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        wei : int
            What it is to have been given, what was paid out included.

        Returns
        -------
        TransactionReceipt or None
            ``None`` where it has been given as much already.
        """
        missing = wei - self.funded(task)
        return self._contract.send("fund", task, value=missing) if missing > 0 else None

    def funding_gas(self, task: bytes, first_block: int) -> int:
        """Return the gas of all transactions since a block that gave to a task's pool."""
        return sum(
            receipt.gas_used
            for receipt in self._contract.receipts_of("Funded", first_block, task=task)
        )

    def funded(self, task: bytes) -> int:
        """Return what a task's pool was given in all, wei."""
        return int(self._contract.read("fundedOf", task))

    def paid(self, task: bytes) -> int:
        """Return what was paid out of a task's pool, wei."""
        return int(self._contract.read("paidOf", task))

    def claimed(self, task: bytes, organization: bytes) -> int:
        """Return what was paid to an organization for a task, wei."""
        return int(self._contract.read("claimedOf", task, organization))

    def claim(
        self,
        task: bytes,
        round: int,
        record: tuple[bytes, bytes, int],
        organization: bytes,
        amount: int,
        proof: Sequence[bytes],
    ) -> TransactionReceipt:
        """Pay an organization what it earned up to a final round and has not been paid yet.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        round : int
            The final round.
        record : tuple of (bytes, bytes, int)
            Hash of its manifest, root and total of its rewards: what its seal folded into one.
        organization : bytes
            Who is paid, 32 bytes; the money goes to the address of its signing key.
        amount : int
            What it earned in all, wei.
        proof : sequence of bytes
            Of its leaf under the root.

        Raises
        ------
        TransactionRevertedError
            The round is not final, the proof does not hold, or there is nothing left to pay.
        """
        return self._contract.send("claim", task, round, *record, organization, amount, list(proof))
