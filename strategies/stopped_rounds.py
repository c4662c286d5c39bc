"""What keeps a round from being carried out."""

from collections.abc import Mapping


class UnlearningRefusedError(RuntimeError):
    """A round of a run that unlearns cannot be carried out without somebody who did not answer.

    Parameters
    ----------
    round_number : int
        The round.
    absent : mapping of str to str
        Who did not reply, or not in order, and why.
    unlearner : str, optional
        Who was to unlearn in it; where the round was made again, nobody.
    """

    def __init__(
        self, round_number: int, absent: Mapping[str, str], unlearner: str | None = None
    ) -> None:
        self.absent = dict(absent)
        said = ", ".join(f"{name} ({reason})" for name, reason in sorted(absent.items()))
        if unlearner is None:
            what = f"made again: {said} took part in it and did not answer"
        else:
            what = f"carried out: {said} was to unlearn in it"
        super().__init__(f"round {round_number} cannot be {what}")


class StoppedForRequestsError(Exception):
    """A run stops between two rounds, because requests to forget wait.

    Parameters
    ----------
    requests : frozenset of bytes
        Their ids, 32 bytes each.
    """

    def __init__(self, requests: frozenset[bytes]) -> None:
        self.requests = requests
        super().__init__(f"{len(requests)} requests to forget wait")
