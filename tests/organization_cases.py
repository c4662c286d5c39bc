"""An organization with data of its own and a coordinator that it can hold against a real chain."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from blockchain.canonical import hash_arrays
from blockchain.public_chain import PublicChain
from client_app.organization import Organization
from llm.factors import Arrays, arrays_from_adapter
from llm.linear_shapes import linear_shapes
from strategies import protocol
from strategies.aggregation import AggregationRule, AggregationState
from strategies.run_parts import aggregation_rule, agreed_terms
from strategies.settings import RunSettings
from strategies.signed_update import TaskContext
from strategies.terms import terms_hash
from tests.chain_samples import DISPUTES
from tests.signing_cases import account_of

#: Stands in every text of the organization's data, and must stand nowhere else.
MARKER = "Wintermärchen-4711"

_runs = itertools.count(1)


def write_reviews(path: Path, rows: int = 60) -> Path:
    """A file of reviews, half of them good."""
    words = ("warm", "dull", "wise", "loud", "funny", "long")
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = f"{MARKER}: a {words[number % 6]} film, number {number}"
            label = ("positive", "negative")[number % 2]
            file.write(json.dumps({"id": f"r{number}", "text": text, "label": label}) + "\n")
    return path


def tiny_settings(home: Path, model: Path, data: Path, **changes: Any) -> RunSettings:
    """Settings of one organization, `shop`, on the tiny model."""
    config = {
        "home": str(home),
        "organizations": "shop",
        "min-organizations": 1,
        "data": str(data),
        "model": str(model),
        "quantization": "none",
        "compute-dtype": "float32",
        "rank": 4,
        "alpha": 8.0,
        "rounds": 2,
        "participation": "always",
        "records-per-round": 16,
        "batch-size": 8,
        "micro-batch-size": 4,
        "max-tokens": 64,
        "validation-records": 4,
    }
    return RunSettings.from_run_config(
        {**config, **{key.replace("_", "-"): value for key, value in changes.items()}}
    )


@dataclass
class Coordinator:
    """What the coordinator of one task does on chain, and the messages it sends."""

    settings: RunSettings
    chain: PublicChain
    rule: AggregationRule = field(init=False)
    state: AggregationState = field(init=False)
    run: str = field(init=False)
    task: bytes = field(init=False)
    context: TaskContext = field(init=False)

    def __post_init__(self) -> None:
        self.rule = aggregation_rule(self.settings, linear_shapes(Path(self.settings.model)))
        self.state = self.rule.initial_state()
        self.run = f"run-{next(_runs)}"
        terms = terms_hash(agreed_terms(self.settings, self.run))
        self.task = self.chain.open_task(terms, hash_arrays(self.adapter), DISPUTES).task
        self.context = TaskContext(self.task, terms, self.chain.domain)

    @property
    def adapter(self) -> Arrays:
        """The global adapter now."""
        return arrays_from_adapter(self.rule.adapter(self.state))

    def organization(self) -> Organization:
        """The organization, as a fresh process would make it."""
        return Organization("shop", self.settings, self.chain, account_of("shop"))

    def message(self, round_number: int = 1, *, sent: Arrays | None = None, **header: Any) -> Any:
        """A message of a round; header entries can be replaced, `None` takes one out."""
        initial = arrays_from_adapter(self.rule.adapter(self.rule.initial_state()))
        moved = {
            name: array
            for name, array in self.adapter.items()
            if array.tobytes() != initial[name].tobytes()
        }
        entries = {
            "organization": "shop",
            "task": self.task,
            "run": self.run,
            "round": round_number,
            "rank": self.settings.rank,
            "adapter-hash": hash_arrays(self.adapter),
            **{key.replace("_", "-"): value for key, value in header.items()},
        }
        return RecordDict(
            {
                protocol.ADAPTER: protocol.array_record(moved if sent is None else sent),
                protocol.HEADER: protocol.header_record(
                    {key: value for key, value in entries.items() if value is not None}
                ),
            }
        )
