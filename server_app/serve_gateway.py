"""Serves the coordinator's door: ``python -m server_app.serve_gateway --help``."""

import argparse
import importlib.metadata
import ssl
import time
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn

from blockchain.deployment import read_deployment
from server_app.gateway import gateway
from server_app.node_registrar import NodeRegistrar
from server_app.reception import Reception
from strategies.deployed_members import coordinator_folder
from strategies.federation_word import MOST, RUN_SETTINGS, FederationWord
from strategies.handed_out import kept_content

_TIMEOUT_SECONDS: Final = 120.0


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="Serve the coordinator's door.")
    parser.add_argument("--home", type=Path, required=True, help="the coordinator's")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at")  # noqa: S104
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True, help="PEM, for that address")
    parser.add_argument("--key", type=Path, required=True, help="PEM, the certificate's")
    parser.add_argument("--superlink", required=True, help="host and port, such as 127.0.0.1:9100")
    parser.add_argument("--authority", type=Path, required=True, help="PEM, of its certificate")
    parser.add_argument("--chain", help="such as http://127.0.0.1:8545; absent: not at this door")
    parser.add_argument("--chain-id", type=int, required=True)
    options = parser.parse_args()
    trusted = ssl.create_default_context(cafile=str(options.authority))
    superlink = httpx.AsyncClient(
        base_url=f"https://{options.superlink}",
        verify=trusted,
        timeout=_TIMEOUT_SECONDS,
        trust_env=False,
    )
    chain = (
        httpx.AsyncClient(base_url=options.chain, timeout=_TIMEOUT_SECONDS, trust_env=False)
        if options.chain
        else None
    )
    reception = Reception(
        coordinator_folder(options.home),
        options.chain_id,
        NodeRegistrar(options.superlink, options.authority).register,
    )

    def join(content: bytes) -> Mapping[str, Any]:
        joined = reception.join(content)
        return {"organization": joined.organization, "node": str(joined.node)}

    uvicorn.run(
        gateway(
            superlink,
            chain,
            join,
            partial(federation, options.home),
            partial(kept_content, options.home),
        ),
        host=options.host,
        port=options.port,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
        access_log=False,
        server_header=False,
        log_level="warning",
    )


def federation(home: Path) -> Mapping[str, Any]:
    """Return what everybody may know of a coordinator's federation, as it stands now."""
    deployment = read_deployment(home / "chain")
    complete = deployment is not None and deployment.is_complete
    word = FederationWord(
        deployment=deployment if complete else None,
        foedus=importlib.metadata.version("foedus"),
        flwr=importlib.metadata.version("flwr"),
        time=time.time(),
        run=_run_told(home),
    )
    return word.model_dump()


def _run_told(home: Path) -> dict[str, Any]:
    """Return how runs will have organizations read their rows, and which model they will load.

    Nothing where the file is just being edited: `foedus up` and `foedus run` say what is wrong.
    """
    try:
        text = (coordinator_folder(home) / "coordinator.toml").read_text(encoding="utf-8")
        run = tomllib.loads(text).get("run", {})
    except (OSError, UnicodeError, tomllib.TOMLDecodeError):
        return {}
    if not isinstance(run, dict):
        return {}
    told = {key: run[key] for key in RUN_SETTINGS if isinstance(run.get(key), str)}
    return {key: value for key, value in told.items() if len(value) <= MOST}


if __name__ == "__main__":
    main()
