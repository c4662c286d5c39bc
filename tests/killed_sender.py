"""A process that sends one transaction and is killed on the way, as no test could do to itself.

``python -m tests.killed_sender URL FOLDER KEY NOTE before|after``
"""

import os
import signal
import sys
from pathlib import Path

from eth_account import Account

from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node
from blockchain.delivery import Delivery
from blockchain.sender import Sender
from tests.ping_contract import ADDRESS, pings


def main(url: str, folder: str, key: str, note: str, when: str) -> None:
    submit = Delivery.submit

    def killed(delivery: Delivery, entry: object) -> None:
        if when == "after":
            submit(delivery, entry)
        os.kill(os.getpid(), signal.SIGKILL)

    Delivery.submit = killed
    settings = ChainSettings.model_validate({"rpc_url": url})
    sender = Sender(connect_node(settings), settings, Account.from_key(key), Path(folder))
    sender.send("ping", {"to": ADDRESS, "data": pings(1, int(note))})


if __name__ == "__main__":
    main(*sys.argv[1:])
