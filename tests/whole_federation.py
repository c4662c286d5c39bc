"""A whole federation in this process: the ServerApp's code, every ClientApp function, a real chain.

Only Flower's transport is left out: messages are handed over as they are. Everything else (models,
files, ledgers, contracts) is what a run has.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from client_app.app import app
from server_app.training import train
from strategies.organization_key import OFFICER, SIGNING, key_folder
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings
from tests.flower_messages import reply_to, sent
from tests.signing_cases import account_of
from tests.travelling_chain import store_key

#: Given a message on its way, whether it gets there.
Passes = Callable[[Message], bool]


@dataclass
class DirectGrid(Grid):
    """Hands each message to the ClientApp of one node, which answers for every organization."""

    settings: RunSettings
    passes: Passes = field(default=lambda _: True)
    delivered: list[Message] = field(default_factory=list)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        answers = []
        for message in map(sent, messages):
            if self.passes(message):
                self.delivered.append(message)
                answers.append(self._answer(message))
        return answers

    def get_node_ids(self) -> list[int]:
        return [100]

    def _answer(self, message: Message) -> Message:
        context = Context(
            run_id=1,
            node_id=100,
            node_config={"partition-id": 0, "num-partitions": 1},
            state=RecordDict(),
            run_config=self.settings.to_run_config(),
        )
        try:
            return reply_to(message, app(message, context).content)
        except Exception as error:
            # As Flower does it: the coordinator sees the error's text.
            return reply_to(message, Error(code=1, reason=f"{type(error).__name__}: {error}"))

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **more: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError


def federation_settings(home: Path, model: Path | str, data: Path, **changes: Any) -> RunSettings:
    """Settings of three small organizations on the tiny model.

    Parameters
    ----------
    home : Path
        The run's home.
    model : Path or str
        The tiny model's folder, or `embedded`.
    data : Path
        Folder of their data: see `write_data`.
    **changes
        Settings other than these.
    """
    config = {
        "home": str(home),
        "run-name": "treaty",
        "organizations": "east,north,south",
        "data": str(data / "{organization}.jsonl"),
        "data-fields": "id=id",
        "model": str(model),
        "quantization": "none",
        "compute-dtype": "float32",
        "rank": 4,
        "alpha": 8.0,
        "rounds": 3,
        "participation": "always",
        "records-per-round": 16,
        "batch-size": 8,
        "micro-batch-size": 4,
        "max-tokens": 64,
        "validation-records": 4,
        "public-validation": str(data / "public.jsonl"),
        "public-validation-records": 8,
        "threads": 1,
        "anchor-interval": 0,
    }
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return RunSettings.from_run_config({**config, **named})


def write_data(
    folder: Path, without: Mapping[str, Iterable[str]] | None = None, rows: int = 60
) -> Path:
    """Write each organization's reviews, and the public ones; less the records left out by id."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ("warm", "dull", "wise", "loud", "funny", "long")
    for name, count in (("east", rows), ("north", rows), ("south", rows), ("public", 8)):
        left_out = set((without or {}).get(name, ()))
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(count):
                identifier = f"{name}-{number}"
                if identifier not in left_out:
                    text = f"a {words[number % 6]} film of the {name}, number {number}"
                    label = ("positive", "negative")[number % 2]
                    row = {"id": identifier, "text": text, "label": label}
                    file.write(json.dumps(row) + "\n")
    return folder


def store_keys(home: Path, *organizations: str) -> None:
    """Give a home the keys of the tests' accounts: to make each takes a second or two."""
    store_key(home / "chain" / "keys", "coordinator", account_of("coordinator").key)
    for name in organizations:
        folder = key_folder(home, name)
        store_key(folder, SIGNING, account_of(name).key)
        store_key(folder, OFFICER, account_of(f"officer of {name}").key)


def run_federation(settings: RunSettings, passes: Passes = lambda _: True) -> RunArchive:
    """Carry out a run, and what is asked meanwhile; return its folder."""
    store_keys(settings.home_path, *settings.organization_names)
    train(settings, DirectGrid(settings, passes))
    return RunArchive(settings.home_path / "runs" / settings.run_name)
