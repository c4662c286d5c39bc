"""An agent on disk: ``<home>/organizations/<name>/agent.safetensors``, whole or not at all.

The tables and counts are its arrays; everything else stands in its metadata, as canonical JSON.
What lies there is a checkpoint: the private ledger makes the agent again without it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from blockchain.canonical import canonical_float, canonical_json
from blockchain.durable_file import write_durably
from client_app.agent.action_space import ACTIONS, AGENT_VERSION, STATE_SHAPE, ActionSpace
from client_app.agent.double_q import DoubleQ, Parameters, PolicyError, State
from llm.json_nesting import check_nesting

#: Decisions that wait for what they bring; beyond, the oldest is given up.
MOST_OPEN: Final = 256

_KEY: Final = "foedus-agent"

#: The one parameter that is a whole number.
_WHOLE: Final = "exploration_steps"


class AgentError(RuntimeError):
    """An agent cannot be read, or is not what its ledger says."""


class AgentMismatchError(AgentError):
    """An agent is of another version, or of other actions than the terms have."""


@dataclass(frozen=True)
class OpenDecision:
    """A decision that waits for what it brings.

    Parameters
    ----------
    record : int
        Number of its record in the private ledger.
    task : str
        Id of the task, hexadecimal.
    round : int
        The round.
    learning : bool
        Whether the agent learns from it.
    last : bool
        Whether the task ends with its round: then no decision follows it.
    state, action : tuple of int, int
        Where, and what was done.
    costs : tuple of int
        Tokens of each action.
    price : int
        Wei a token.
    following : tuple of int or None
        The state of the next decision, once that was made.
    permitted : tuple of bool
        Which actions that had; empty before.
    """

    record: int
    task: str
    round: int
    learning: bool
    last: bool
    state: State
    action: int
    costs: tuple[int, ...]
    price: int
    following: State | None = None
    permitted: tuple[bool, ...] = ()

    @property
    def followed(self) -> bool:
        """Whether it is known what comes after it."""
        return self.last or not self.learning or self.following is not None

    def to_json(self) -> dict[str, Any]:
        """Lay it out, canonically encodable."""
        return {
            "record": self.record,
            "task": self.task,
            "round": self.round,
            "learning": self.learning,
            "last": self.last,
            "state": list(self.state),
            "action": self.action,
            "costs": list(self.costs),
            "price": str(self.price),
            "following": None if self.following is None else list(self.following),
            "permitted": list(self.permitted),
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "OpenDecision":
        """Read one back."""
        following = entry["following"]
        return cls(
            **{name: entry[name] for name in ("record", "task", "round", "learning", "last")},
            state=tuple(entry["state"]),
            action=entry["action"],
            costs=tuple(entry["costs"]),
            price=int(entry["price"]),
            following=None if following is None else tuple(following),
            permitted=tuple(entry["permitted"]),
        )


@dataclass
class SavedAgent:
    """An agent as it is kept.

    Parameters
    ----------
    learner : DoubleQ
        Tables, counts, step and random state.
    seed : str
        What its random numbers began with, 32 bytes in hexadecimal.
    ledger : str
        Id of the private ledger that it is a checkpoint of, hexadecimal.
    founded : bool
        Whether the ledger says what it began with; its next decision does, where not yet.
    position : int
        Records of that ledger that it has taken in: all below this number.
    open : list of OpenDecision
        Oldest first.
    """

    learner: DoubleQ
    seed: str
    ledger: str
    founded: bool = False
    position: int = 0
    open: list[OpenDecision] = field(default_factory=list)


def save_agent(path: Path, agent: SavedAgent, space: ActionSpace) -> None:
    """Write an agent, durably."""
    learner = agent.learner
    document: dict[str, Any] = {
        "version": AGENT_VERSION,
        "space": space.describe(),
        "fingerprint": space.fingerprint().hex(),
        "parameters": parameters_to_json(learner.parameters),
        "step": learner.step,
        "random": random_to_json(learner.random),
        "seed": agent.seed,
        "founded": agent.founded,
        "ledger": agent.ledger,
        "position": agent.position,
        "open": [decision.to_json() for decision in agent.open],
    }
    arrays = {"tables": learner.tables, "visits": learner.visits}
    metadata = {_KEY: canonical_json(document).decode()}
    write_durably(path, save(arrays, metadata=metadata), mode=0o600)


def load_agent(path: Path, space: ActionSpace) -> SavedAgent | None:
    """Read an agent; ``None`` where there is none.

    Parameters
    ----------
    path : Path
        Its file.
    space : ActionSpace
        What its states and actions must be.

    Raises
    ------
    AgentError
        If the file is damaged, of another version, or an agent of other actions.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY, "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_nesting(text)
        document = json.loads(text)
        _check_space(path, document, space)
        learner = learner_of(
            parameters_from_json(document["parameters"]), arrays["tables"], arrays["visits"]
        )
        learner.step = _count(document["step"])
        learner.random = random_from_json(document["random"])
        return SavedAgent(
            learner,
            seed=str(document["seed"]),
            ledger=str(document["ledger"]),
            founded=document["founded"] is True,
            position=_count(document["position"]),
            open=[OpenDecision.from_json(entry) for entry in document["open"]],
        )
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise AgentError(
            f"{path}: damaged ({type(error).__name__}: {error}); move it away: the private ledger "
            "makes it again"
        ) from error


def _check_space(path: Path, document: dict[str, Any], space: ActionSpace) -> None:
    if document["version"] != AGENT_VERSION:
        raise AgentMismatchError(
            f"{path}: an agent of version {document['version']!r}, expected {AGENT_VERSION}; "
            "`foedus agent reset` begins a new one"
        )
    if document["fingerprint"] != space.fingerprint().hex():
        found, expected = document["space"], space.describe()
        differing = [key for key in expected if found.get(key) != expected[key]]
        told = "; ".join(
            f"{key} {found.get(key)!r}, expected {expected[key]!r}" for key in differing
        )
        raise AgentMismatchError(
            f"{path}: an agent of other actions ({told}); take part under the terms that it "
            "learned for, or begin a new one with `foedus agent reset`"
        )


def learner_of(
    parameters: Parameters, tables: np.ndarray[Any, Any], visits: np.ndarray[Any, Any]
) -> DoubleQ:
    """Return a learner with given tables, at the first step of its schedule.

    Parameters
    ----------
    parameters : Parameters
        How it learns.
    tables : ndarray of float64, (2, *STATE_SHAPE, actions)
        The two estimates.
    visits : ndarray of int64, of the same shape
        Updates of each entry.

    Raises
    ------
    PolicyError
        If they have not that shape and type, or hold what is not finite or below 0.
    """
    shape = (2, *STATE_SHAPE, len(ACTIONS))
    for name, array, kind in (("tables", tables, np.float64), ("visits", visits, np.int64)):
        if array.shape != shape or array.dtype != kind:
            raise PolicyError(
                f"{name} of shape {array.shape} and type {array.dtype}, expected {shape} of "
                f"{np.dtype(kind)}"
            )
    if not np.isfinite(tables).all() or (visits < 0).any():
        raise PolicyError("tables that are not finite, or visits below 0")
    learner = DoubleQ(STATE_SHAPE, len(ACTIONS), parameters, np.random.default_rng(0))
    learner.tables, learner.visits = tables.copy(), visits.copy()
    return learner


def parameters_to_json(parameters: Parameters) -> dict[str, Any]:
    """Lay parameters out; floats in their exact hexadecimal form."""
    return {
        name: value if name == _WHOLE else canonical_float(value)
        for name, value in parameters.to_json().items()
    }


def parameters_from_json(document: dict[str, Any]) -> Parameters:
    """Read parameters back."""
    values: dict[str, Any] = {
        name: _count(value) if name == _WHOLE else float.fromhex(value)
        for name, value in document.items()
    }
    return Parameters(**values)


def random_to_json(random: np.random.Generator) -> dict[str, Any]:
    """Lay a random state out: its integers have 128 bits, and are text."""
    state = random.bit_generator.state
    return {
        "bit-generator": state["bit_generator"],
        "state": {name: str(value) for name, value in state["state"].items()},
        "has-uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def random_from_json(document: dict[str, Any]) -> np.random.Generator:
    """Read a random state back; only PCG64's."""
    if document["bit-generator"] != "PCG64":
        raise ValueError(f"random state of {document['bit-generator']!r}, expected PCG64")
    generator = np.random.PCG64()
    state = document["state"]
    generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(state["state"]), "inc": int(state["inc"])},
        "has_uint32": _count(document["has-uint32"]),
        "uinteger": _count(document["uinteger"]),
    }
    return np.random.Generator(generator)


def seeded_random(seed: bytes) -> np.random.Generator:
    """Return the random numbers of a seed of 32 bytes."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r}, expected a whole number of at least 0")
    return value
