"""Learns the tables that an organization's agent starts from.

    python -m benchmarks.participation.learn_tables [--check]

One pair of tables plays for every organization of many random tasks: 3 to 10 organizations, pools
from a quarter of to twice what everybody's full effort costs, from the base model or from an
adapter trained for some rounds. Every number comes from one seed: a second run gives the same bits,
which ``--check`` asserts. The hash that it prints is the one the application pins.
"""

import argparse
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.participation.environment import ParticipationEnvironment
from benchmarks.participation.federation import SPACE, Federation, continued, draw_federation
from benchmarks.participation.policies import Learned, play
from benchmarks.participation.response import Calibration
from blockchain.canonical import canonical_json
from client_app.agent.action_space import ACTIONS, STATE_SHAPE
from client_app.agent.double_q import DoubleQ, Parameters

TABLES: Final = Path(__file__).parents[2] / "client_app" / "agent" / "demo_tables.json"
SEED: Final = 20261128
DECISIONS: Final = 500_000
COMMAND: Final = "python -m benchmarks.participation.learn_tables"
#: With which an agent goes on from the tables.
SHIPPED: Final = Parameters(exploration_start=0.05, exploration_end=0.05, exploration_steps=0)
#: With which they are learned. A floor of 0.05 would leave a tenth of a reward's deviation and more
#: in each entry, which is as much as actions differ by; everything is tried without optimism.
#: Nor do they explore less than this: agents that share their tables and hardly explore settle on
#: what suits one another, such as all waiting for the second half, and not on what pays.
LEAST_EXPLORATION: Final = 0.3
LEARNING: Final = replace(
    SHIPPED,
    exploration_start=1.0,
    exploration_end=LEAST_EXPLORATION,
    learning_rate_floor=0.005,
    optimism=0.0,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="learn again and compare the bytes")
    options = parser.parse_args()
    started = time.perf_counter()
    document = canonical_json(tables_document(learn(DECISIONS)))
    if options.check and TABLES.read_bytes() != document:
        raise SystemExit(f"{TABLES}: not what {COMMAND} learns here")
    if not options.check:
        TABLES.write_bytes(document)
    print(f"{hashlib.sha256(document).hexdigest()}  {time.perf_counter() - started:.0f} s")


def learn(decisions: int, discount: float = SHIPPED.discount, seed: int = SEED) -> DoubleQ:
    """Return tables after some decisions; exploration comes down all the way."""
    parameters = replace(LEARNING, discount=discount, exploration_steps=decisions)
    shared = DoubleQ(STATE_SHAPE, len(ACTIONS), parameters, np.random.default_rng([seed, 1]))
    random, calibration = np.random.default_rng([seed, 2]), Calibration.load()
    while shared.step < decisions:
        federation = random_federation(random, calibration)
        agents = dict.fromkeys((o.name for o in federation.organizations), shared)
        environment = ParticipationEnvironment(federation)
        play(environment, Learned(agents, learning=True), int(random.integers(2**32)))
    return shared


def random_federation(random: np.random.Generator, calibration: Calibration) -> Federation:
    """Draw a task to learn from."""
    size, share = int(random.integers(3, 11)), float(2 ** random.uniform(-2.0, 1.0))
    federation = draw_federation(
        random, size, share, calibration, plain=bool(random.random() < 0.3)
    )
    federation = continued(federation, float(random.choice((0.0, 0.0, 1.0, 3.0))))
    # Longer epochs, so that every level of a budget is seen with every action.
    longer = int(random.integers(1, 4))
    return replace(
        federation,
        organizations=tuple(replace(o, budget=longer * o.budget) for o in federation.organizations),
        terms=replace(federation.terms, epoch=longer * federation.terms.epoch),
    )


def tables_document(learned: DoubleQ) -> dict[str, Any]:
    """Lay tables out: floats as their hexadecimal text, since canonical JSON has none."""
    parameters = {
        name: value.hex() if isinstance(value, float) else value
        for name, value in SHIPPED.to_json().items()
    }
    return {
        "version": 1,
        "command": COMMAND,
        "fingerprint": SPACE.fingerprint().hex(),
        "parameters": parameters,
        "tables": _hexadecimal(learned.tables.tolist()),
        "visits": learned.visits.tolist(),
    }


def read_tables(path: Path = TABLES) -> DoubleQ:
    """Read what :func:`tables_document` laid out; nothing may learn from it in place."""
    document = json.loads(path.read_text())
    if document["fingerprint"] != SPACE.fingerprint().hex():
        raise ValueError(f"{path}: tables of other states or actions, learn them again")
    read = DoubleQ(STATE_SHAPE, len(ACTIONS), SHIPPED, np.random.default_rng(0))
    numbers = [float.fromhex(text) for text in np.array(document["tables"]).reshape(-1)]
    read.tables[...] = np.array(numbers).reshape(read.tables.shape)
    read.visits[...] = np.array(document["visits"])
    return read


def _hexadecimal(values: Any) -> Any:
    return [_hexadecimal(v) for v in values] if isinstance(values, list) else values.hex()


if __name__ == "__main__":
    main()
