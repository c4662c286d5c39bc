"""The coordinator's door: one HTTPS port at which organizations reach what they need, and no more.

``python -m server_app.gateway`` (``--help`` says what it takes) passes a SuperNode's calls on to
the SuperLink, and the chain's to its node. What else a SuperLink offers at its one port, such as to
start a run, stays on the coordinator's machine.

A call is known by its exact path and passed on to an address that is written here: nothing of what
was sent decides where it goes.
"""

import argparse
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

#: What a SuperNode whose key the coordinator has registered asks for. Not to register itself.
FLEET_CALLS: Final = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
#: Where organizations ask the chain's node; it has a list of its own.
CHAIN_PATH: Final = "/chain"

#: Flower cuts what it sends into pieces of 5 MiB; a message that names them all is smaller.
MAX_REQUEST_BYTES: Final = 32 * 1024 * 1024

#: Of one connection between two machines, not of what travels on.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_TIMEOUT_SECONDS: Final = 120.0
_LOG: Final = logging.getLogger(__name__)


class _TooLongError(Exception):
    """A request has more bytes than any that organizations have reason to send."""


def gateway(superlink: httpx.AsyncClient, chain: httpx.AsyncClient | None = None) -> Starlette:
    """Return the application that passes calls on.

    Parameters
    ----------
    superlink : httpx.AsyncClient
        With the SuperLink's address as its base.
    chain : httpx.AsyncClient, optional
        With the chain node's; without it there is no chain behind the door.
    """
    routes = [
        Route("/health", _passed(superlink, "GET", "/health"), methods=["GET"]),
        *(
            Route(path, _passed(superlink, "POST", path), methods=["POST"])
            for path in (f"/v1/fleet/{call}" for call in FLEET_CALLS)
        ),
    ]
    if chain is not None:
        routes.append(Route(CHAIN_PATH, _passed(chain, "POST", "/"), methods=["POST"]))

    @asynccontextmanager
    async def closing(_: Starlette) -> AsyncIterator[None]:
        yield
        for client in (superlink, chain):
            if client is not None:
                await client.aclose()

    application = Starlette(routes=routes, lifespan=closing)
    # A path with a slash too many is another path, and none that is known.
    application.router.redirect_slashes = False
    return application


def _passed(
    client: httpx.AsyncClient, method: str, path: str
) -> Callable[[Request], Awaitable[Response]]:
    async def pass_on(request: Request) -> Response:
        try:
            content = await _content(request)
        except _TooLongError:
            said = f"a request of more than {MAX_REQUEST_BYTES} bytes"
            return PlainTextResponse(said, status_code=413)
        except ClientDisconnect:
            return PlainTextResponse("", status_code=400)
        outgoing = client.build_request(
            method, path, content=content, headers=_travelling(request.headers)
        )
        try:
            answer = await client.send(outgoing, stream=True)
        except httpx.HTTPError as error:
            # Organizations wait and ask again; what exactly is wrong is the coordinator's to see.
            _LOG.warning("%s: %s: %s", path, type(error).__name__, error)
            return PlainTextResponse("not reachable at the moment", status_code=502)
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers=_travelling(answer.headers),
            background=BackgroundTask(answer.aclose),
        )

    return pass_on


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MAX_REQUEST_BYTES:
            raise _TooLongError
    return bytes(content)


def _travelling(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at")  # noqa: S104
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True, help="PEM, for this address")
    parser.add_argument("--key", type=Path, required=True, help="PEM, the certificate's")
    parser.add_argument("--superlink", required=True, help="such as https://127.0.0.1:9100")
    parser.add_argument("--ca", type=Path, required=True, help="PEM, who signed its certificate")
    parser.add_argument("--chain", help="such as http://127.0.0.1:8545")
    options = parser.parse_args()
    trusted = ssl.create_default_context(cafile=str(options.ca))
    superlink = httpx.AsyncClient(
        base_url=options.superlink, verify=trusted, timeout=_TIMEOUT_SECONDS, trust_env=False
    )
    chain = (
        httpx.AsyncClient(base_url=options.chain, timeout=_TIMEOUT_SECONDS, trust_env=False)
        if options.chain
        else None
    )
    uvicorn.run(
        gateway(superlink, chain),
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
