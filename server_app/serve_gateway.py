"""Serves the coordinator's door: ``python -m server_app.serve_gateway --help``."""

import argparse
import ssl
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

    def federation() -> Mapping[str, Any]:
        deployment = read_deployment(options.home / "chain")
        complete = deployment is not None and deployment.is_complete
        return {"deployment": deployment.model_dump() if deployment and complete else None}

    uvicorn.run(
        gateway(superlink, chain, join, federation, partial(kept_content, options.home)),
        host=options.host,
        port=options.port,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
        access_log=False,
        server_header=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
