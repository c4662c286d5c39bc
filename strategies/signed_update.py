"""What an organization signs for a round, and the opening it keeps apart from it."""

import secrets
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from blockchain.merkle import organization_id
from blockchain.model_update import DECLINED, SALT_BYTES, ModelUpdate, commitment
from blockchain.typed_data import Domain, sign_digest


@dataclass(frozen=True)
class TaskContext:
    """What every signature of a task is bound to.

    Parameters
    ----------
    task : bytes
        The task's id, 32 bytes.
    terms : bytes
        Hash of its terms, 32 bytes.
    domain : Domain
        Chain and contract.
    """

    task: bytes
    terms: bytes
    domain: Domain

    def update(
        self,
        organization: str,
        round_number: int,
        parent: bytes,
        *,
        committed: bytes,
        num_examples: int,
        deadline: int,
    ) -> ModelUpdate:
        """Return what an organization signs for a round of this task.

        Parameters
        ----------
        organization : str
            Its name.
        round_number : int
            The round.
        parent : bytes
            Hash of the adapter that the round was opened on, 32 bytes.
        committed : bytes
            Salted commitment to the update, 32 bytes.
        num_examples : int
            Records used.
        deadline : int
            Seconds since the epoch after which the contract no longer takes it.
        """
        return ModelUpdate(
            task=self.task,
            round=round_number,
            organization=organization_id(organization),
            parent_adapter=parent,
            terms=self.terms,
            commitment=committed,
            num_examples=num_examples,
            deadline=deadline,
        )


@dataclass(frozen=True)
class Opening:
    """What opens a commitment: kept in files that can be erased, never in a manifest.

    Parameters
    ----------
    update_hash : bytes
        Canonical hash of the update, 32 bytes.
    salt : bytes
        Random, 32 bytes.
    """

    update_hash: bytes
    salt: bytes

    @classmethod
    def of(cls, update_hash: bytes) -> "Opening":
        """Return a new opening with a salt of the system's randomness."""
        return cls(update_hash, secrets.token_bytes(SALT_BYTES))

    @classmethod
    def of_nothing(cls) -> "Opening":
        """Return all zeros, which open no commitment: nothing was trained, or it was erased."""
        return cls(bytes(32), bytes(32))

    def commitment(self, num_examples: int) -> bytes:
        """Return the commitment that this opens, 32 bytes."""
        return commitment(self.update_hash, num_examples, self.salt)


@dataclass(frozen=True)
class SignedUpdate:
    """An organization's word on a round.

    Parameters
    ----------
    update : ModelUpdate
        What it signed.
    signature : bytes
        65 bytes.
    opening : Opening
        What its commitment stands for.
    """

    update: ModelUpdate
    signature: bytes
    opening: Opening

    @property
    def declines(self) -> bool:
        """Whether it says that its organization trained nothing in the round."""
        return self.update.declines


def sign_update(
    context: TaskContext,
    account: LocalAccount,
    organization: str,
    round_number: int,
    parent: bytes,
    *,
    update_hash: bytes,
    num_examples: int,
    deadline: int,
) -> SignedUpdate:
    """Commit to an update under a new salt, and sign.

    See :meth:`TaskContext.update` for the parameters.
    """
    opening = Opening.of(update_hash)
    update = context.update(
        organization,
        round_number,
        parent,
        committed=opening.commitment(num_examples),
        num_examples=num_examples,
        deadline=deadline,
    )
    return SignedUpdate(update, sign_digest(update.digest(context.domain), account), opening)


def sign_decline(
    context: TaskContext,
    account: LocalAccount,
    organization: str,
    round_number: int,
    parent: bytes,
    *,
    deadline: int,
) -> SignedUpdate:
    """Sign that an organization trains nothing in a round.

    See :meth:`TaskContext.update` for the parameters.

    Returns
    -------
    SignedUpdate
        Over no records, with an opening of zeros: there is nothing to open, keep or erase.
    """
    update = context.update(
        organization,
        round_number,
        parent,
        committed=DECLINED,
        num_examples=0,
        deadline=deadline,
    )
    signature = sign_digest(update.digest(context.domain), account)
    return SignedUpdate(update, signature, Opening.of_nothing())
