"""The clock of this machine, against the coordinator's and the chain's."""

import time
from typing import Final

from blockchain.connection import answers_of
from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.machine import Machine

#: A round's deadline, an invitation's end and the windows of challenges are judged by the clocks of
#: several machines, and none of them is shorter than a minute: half of one can be off unnoticed.
LIMIT_SECONDS: Final = 30.0
#: Flower's SuperLink takes no call of a node that is signed later than this by its own clock.
AHEAD_SECONDS: Final = 5.0

_SET_CLOCK: Final = "have the network set the clocks of both (`timedatectl set-ntp true`)"


def clock(machine: Machine) -> Finding:
    """Compare this machine's clock with the coordinator's."""
    told = machine.told
    if told.word.time is None:
        return warns(
            "the coordinator does not say what time it has",
            "ask it to bring its Foedus up to date (`git pull && make setup`), and to call "
            "`foedus down` and `foedus up`",
        )
    # It read its clock at some moment between question and answer: what cannot be told from a slow
    # answer is no difference.
    doubt = max(0.0, told.answered - told.asked) / 2
    ahead = (told.asked + told.answered) / 2 - told.word.time
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's"
    if ahead - doubt > AHEAD_SECONDS:
        return fails(f"{found}: the SuperLink refuses what is signed in its future", _SET_CLOCK)
    if abs(ahead) - doubt > LIMIT_SECONDS:
        return fails(f"{found}: more than {LIMIT_SECONDS:g} s", _SET_CLOCK)
    return holds(found)


def chain_clock(machine: Machine) -> Finding:
    """Compare this machine's clock with the chain's last block.

    A chain on which nothing happened has an old one, which says nothing; one from the future does.
    """
    with answers_of(machine.chain_node, "the last block"):
        block = machine.chain_node.eth.get_block("latest")
    ahead = int(block["timestamp"]) - time.time()
    if ahead > LIMIT_SECONDS:
        return fails(
            f"block {block['number']} is from {ahead:.0f} s in this machine's future",
            "have the network set this machine's clock (`timedatectl set-ntp true`); if it is "
            "right, the clock of the chain's node is wrong or was",
        )
    return holds(f"block {block['number']}, {max(0.0, -ahead):.0f} s ago")
