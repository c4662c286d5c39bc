"""What an agent can do in a round: stay away, or train at one of three efforts."""

from dataclasses import dataclass
from typing import Any, Final

from blockchain.canonical import hash_json
from strategies.effort import EFFORT_NAMES, Effort

#: Of what a saved agent is; raised when states or actions come to mean something else.
AGENT_VERSION: Final = 1

ACTIONS: Final = ("skip", *EFFORT_NAMES)
SKIP: Final = 0

#: Values of each coordinate of a situation: budget left, earned for what was spent, what was done
#: last, how far the task is.
STATE_SHAPE: Final = (3, 3, 3, 2)


@dataclass(frozen=True)
class ActionSpace:
    """The actions, and what effort means under the task's terms.

    Parameters
    ----------
    effort : Effort
        What the efforts change, and the share of it that each is.
    """

    effort: Effort

    def describe(self) -> dict[str, Any]:
        """Lay out what an agent's tables are about."""
        return {
            "version": AGENT_VERSION,
            "actions": list(ACTIONS),
            "effort": self.effort.kind,
            "percents": list(self.effort.percents),
            "state": list(STATE_SHAPE),
        }

    def fingerprint(self) -> bytes:
        """Return the hash of :meth:`describe`, 32 bytes: tables of another one are of no use."""
        return hash_json(self.describe())

    def percent(self, action: int) -> int:
        """Return the share of full effort that an action is, in percent; 0 for none."""
        return 0 if action == SKIP else self.effort.percents[action - 1]

    def action(self, percent: int) -> int:
        """Return the action that is a share of full effort; full effort where none is."""
        shares = [self.percent(action) for action in range(len(ACTIONS))]
        return shares.index(percent) if percent in shares else len(ACTIONS) - 1
