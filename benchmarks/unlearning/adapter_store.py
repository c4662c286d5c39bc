"""Models that were made, on disk: the rule's state, what it cost, and the updates of each round.

::

    <folder>/<digest of the setting>/<form>/<seed>/.../<model>/
        state.safetensors      after the last round (under ``ffa`` the factors B, float64)
        made.json              hash, cost, what each round cost, what else is known
        states/0021.safetensors    of a fast one: after the unlearning and after each recovery round
        updates/0007.safetensors   of the trained one: every organization's update in a round
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from benchmarks.unlearning.cost import Cost
from blockchain.canonical import hash_arrays
from blockchain.durable_file import write_durably
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.run_archive import load_arrays, read_json, write_json

#: Stands between an organization and the name of an array; no name holds it.
_OF: str = " / "
_RECORDS: str = "records"


@dataclass(frozen=True)
class Made:
    """A model that was made.

    Parameters
    ----------
    state : AggregationState
        The rule's.
    cost : Cost
        Of making it, from what it starts from.
    rounds : list of dict
        Number and trained tokens of every round, where there were some.
    details : dict
        What else is known of how it came about.
    states : mapping of int to AggregationState
        After each round of a fast one.
    """

    state: AggregationState
    cost: Cost
    rounds: list[dict[str, int]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    states: Mapping[int, AggregationState] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """Hash of the state, all bits of it."""
        return hash_arrays(self.state.to_arrays()).hex()


@dataclass(frozen=True)
class AdapterStore:
    """The models of one setting.

    Parameters
    ----------
    folder : Path
        Where they lie.
    rule : AggregationRule
        Whose states they are.
    """

    folder: Path
    rule: AggregationRule

    def read(self, name: str) -> Made | None:
        """Return a model; None where it is not there, or not whole."""
        folder = self.folder / name
        if not (folder / "made.json").is_file():
            return None
        known = read_json(folder / "made.json")
        made = Made(
            self.rule.restore(load_arrays(folder / "state.safetensors")),
            Cost(**known["cost"]),
            known["rounds"],
            known["details"],
            {
                int(path.stem): self.rule.restore(load_arrays(path))
                for path in sorted((folder / "states").glob("*.safetensors"))
            },
        )
        if made.hash != known["hash"]:
            raise SystemExit(f"{folder}: its state is not the one that was written; delete it")
        return made

    def write(self, name: str, made: Made) -> None:
        """Keep a model; it counts as there once all of it is."""
        folder = self.folder / name
        (folder / "made.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "states", ignore_errors=True)
        for number, state in made.states.items():
            _write_arrays(folder / "states" / f"{number:04d}.safetensors", state.to_arrays())
        _write_arrays(folder / "state.safetensors", made.state.to_arrays())
        known = {
            "hash": made.hash,
            "cost": asdict(made.cost),
            "rounds": made.rounds,
            "details": made.details,
        }
        write_json(folder / "made.json", known)

    def write_round(
        self, name: str, number: int, contributions: Sequence[Contribution], cost: Cost
    ) -> None:
        """Keep what a round was made of, and what it cost."""
        arrays: dict[str, Any] = {}
        for one in contributions:
            arrays |= {f"{one.organization}{_OF}{n}": array for n, array in one.arrays.items()}
            arrays[f"{one.organization}{_OF}{_RECORDS}"] = np.array([one.num_examples])
        path = self._updates(name, number)
        _write_arrays(path, arrays)
        write_json(path.with_suffix(".json"), asdict(cost))

    def round(self, name: str, number: int) -> tuple[list[Contribution], Cost] | None:
        """Return what a round was made of, and its cost; None where it was not finished."""
        path = self._updates(name, number)
        if not path.with_suffix(".json").is_file():
            return None
        by_organization: dict[str, dict[str, Any]] = {}
        for key, array in load_arrays(path).items():
            organization, _, array_name = key.partition(_OF)
            by_organization.setdefault(organization, {})[array_name] = array
        contributions = [
            Contribution(organization, int(arrays.pop(_RECORDS)[0]), arrays)
            for organization, arrays in by_organization.items()
        ]
        return contributions, Cost(**read_json(path.with_suffix(".json")))

    def rounds(self, name: str, numbers: Iterable[int]) -> Iterator[tuple[int, list[Contribution]]]:
        """Read what rounds were made of, one at a time.

        Raises
        ------
        SystemExit
            If one is missing.
        """
        for number in numbers:
            found = self.round(name, number)
            if found is None:
                raise SystemExit(f"{self._updates(name, number)} is missing: delete {name}")
            yield number, found[0]

    def _updates(self, name: str, number: int) -> Path:
        return self.folder / name / "updates" / f"{number:04d}.safetensors"


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    write_durably(path, save({n: np.ascontiguousarray(array) for n, array in arrays.items()}))
