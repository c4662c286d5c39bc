"""What a new agent begins with: the tables that come with Foedus, or empty ones.

The tables that come with it were learned in the calibrated environment of the benchmarks, by
``python -m benchmarks.participation.learn_tables``: 54 situations and four actions are not learned
in a handful of rounds.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from blockchain.canonical import hash_json
from client_app.agent.action_space import ACTIONS, STATE_SHAPE, ActionSpace
from client_app.agent.agent_file import AgentError, parameters_from_json
from client_app.agent.double_q import Parameters

TABLES_FILE: Final = Path(__file__).parent / "demo_tables.json"

#: SHA-256 of that file: other tables are another agent.
TABLES_SHA256: Final = "cc360e3f5342a4a5090c0d2392efb2e4be6bf170a9b9a60d7875276feec7d4d2"


@dataclass(frozen=True)
class AgentStart:
    """What a new agent begins with.

    Parameters
    ----------
    parameters : Parameters
        How it learns and explores.
    tables : ndarray of float64, (2, *STATE_SHAPE, actions)
        Its two estimates.
    visits : ndarray of int64, of the same shape
        Updates behind each entry.
    seed : bytes
        What its random numbers begin with, 32 bytes.
    """

    parameters: Parameters
    tables: np.ndarray[Any, np.dtype[np.float64]]
    visits: np.ndarray[Any, np.dtype[np.int64]]
    seed: bytes


def agent_start(space: ActionSpace, *, seed: int, organization: str) -> AgentStart:
    """Return what an organization's new agent begins with.

    Parameters
    ----------
    space : ActionSpace
        Its actions. The tables that come with Foedus are for steps at 50, 75 and 100 percent; an
        agent of other actions begins with empty ones and explores from the first.
    seed : int
        The run's seed.
    organization : str
        Whose agent: no two draw the same random numbers.

    Raises
    ------
    AgentError
        If the tables that come with Foedus were altered.
    """
    own = hash_json({"purpose": "foedus agent", "seed": seed, "organization": organization})
    learned = _learned_tables()
    if learned["fingerprint"] == space.fingerprint().hex():
        return AgentStart(
            parameters_from_json(learned["parameters"]),
            _array(learned["tables"]),
            np.array(learned["visits"], dtype=np.int64),
            own,
        )
    parameters, shape = Parameters(), (2, *STATE_SHAPE, len(ACTIONS))
    return AgentStart(
        parameters,
        np.full(shape, parameters.optimism, dtype=np.float64),
        np.zeros(shape, dtype=np.int64),
        own,
    )


def _learned_tables() -> dict[str, Any]:
    content = TABLES_FILE.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != TABLES_SHA256:
        raise AgentError(f"{TABLES_FILE}: SHA-256 {found}, expected {TABLES_SHA256}: reinstall")
    learned: dict[str, Any] = json.loads(content)
    return learned


def _array(nested: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Read nested lists of hexadecimal floats."""
    flat, shape, level = nested, [], nested
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0]
    for _ in shape[1:]:
        flat = [one for part in flat for one in part]
    return np.array([float.fromhex(one) for one in flat], dtype=np.float64).reshape(shape)
