"""What can go wrong with a private ledger, each as a type of its own, in one line."""


class LedgerError(RuntimeError):
    """The private ledger did not do what was asked; the message says what to do."""


class LedgerFileError(LedgerError):
    """A file of the ledger is missing, locked, read-only, full, foreign or of another version."""


class RecordRefusedError(LedgerError):
    """A record is of no known type, or malformed."""


class NotPermittedError(LedgerError):
    """The policy in force does not let this member do this."""


class ErasedError(LedgerError):
    """What was asked for was erased."""


class EntryBarredError(LedgerError):
    """A record that is to be committed was forgotten, and must not come back."""


class InvalidLedgerError(LedgerError):
    """The ledger is not as its members wrote it.

    Parameters
    ----------
    field : str
        What does not hold.
    detail : str
        What was found, and what was expected.
    block : int, optional
        Height of the block it belongs to.
    record : int, optional
        Number of the record.
    """

    def __init__(
        self, field: str, detail: str, *, block: int | None = None, record: int | None = None
    ) -> None:
        self.field = field
        self.detail = detail
        self.block = block
        self.record = record
        place = [] if block is None else [f"block {block}"]
        place += [] if record is None else [f"record {record}"]
        message = f"{', '.join([*place, field])}: {detail}"
        # It may quote what somebody else wrote.
        super().__init__("".join(sign if sign.isprintable() else "?" for sign in message))


class RolledBackError(InvalidLedgerError):
    """The ledger is older than what is known of it: an older file was put in its place."""
