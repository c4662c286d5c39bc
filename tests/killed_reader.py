"""A process that reads events and is killed between a delivery and its checkpoint.

``python -m tests.killed_reader URL FOLDER DELIVERIES``: killed after so many of them.
"""

import os
import signal
import sys
from pathlib import Path

from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node
from blockchain.event_reader import EventReader
from blockchain.event_store import EventStore
from tests.ping_contract import ABI, ADDRESS


def main(url: str, folder: str, deliveries: str) -> None:
    left = int(deliveries)

    class Killed(EventStore):
        def add(self, events):
            nonlocal left
            super().add(events)
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = ChainSettings.model_validate({"rpc_url": url, "event_range_blocks": 3})
    reader = EventReader(
        connect_node(settings),
        settings,
        ADDRESS,
        ABI,
        {"Ping": {}},
        Path(folder, "checkpoint.json"),
    )
    reader.apply(Killed(Path(folder, "events.jsonl")))


if __name__ == "__main__":
    main(*sys.argv[1:])
