"""A process that anchors a ledger and is gone at one step; run by ``test_ledger_anchoring``."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from blockchain.chain_settings import ChainSettings
from blockchain.deployment import connect_deployed
from blockchain.private import anchoring
from blockchain.private.ledger import Ledger
from tests.signing_cases import account_of

STEPS = ("nothing was prepared", "prepared", "about to be sent", "landed")


def _die(*_: Any, **__: Any) -> NoReturn:
    os._exit(9)


def main() -> None:
    """Arguments: the chain's settings, its folder, the ledger's, the organization, the step."""
    settings, folder, ledger_folder, name, step = sys.argv[1:]
    account = account_of(name)
    chain_settings = ChainSettings.model_validate(json.loads(settings))
    chain = connect_deployed(chain_settings, Path(folder), account)
    put = anchoring._put

    def put_then_die(ledger: Ledger, row: dict[str, Any]) -> None:
        if step == "nothing was prepared" or (step == "landed" and row["state"] == "confirmed"):
            _die()
        put(ledger, row)
        if (step, row["state"]) in {("prepared", "prepared"), ("about to be sent", "sent")}:
            _die()

    anchoring._put = put_then_die
    with Ledger(Path(ledger_folder), account) as ledger:
        anchoring.anchor(ledger, chain.anchors)


if __name__ == "__main__":
    main()
