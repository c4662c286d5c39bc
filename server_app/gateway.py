"""The coordinator's door: one HTTPS port at which organizations reach what they need, and no more.

It passes a SuperNode's calls on to the SuperLink, and the chain's to its node; answers to
invitations are taken here. What else a SuperLink offers at its one port, such as to start a run,
stays on the coordinator's machine.

A call is known by its exact path and passed on to an address that is written here: nothing of what
was sent decides where it goes.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from server_app.node_registrar import RegistrarError
from strategies.handed_out import HASH
from strategies.joining import JoiningError
from strategies.run_chain import DOOR_PATH

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
#: Where organizations answer their invitations.
JOIN_PATH: Final = "/join"
#: Where they read which contracts and which application the federation has.
FEDERATION_PATH: Final = "/federation"
#: Where they fetch what is handed out to all, by its SHA-256.
PUBLIC_PATH: Final = "/public"

#: Flower cuts what it sends into pieces of 5 MiB; a message that names them all is smaller.
MAX_REQUEST_BYTES: Final = 32 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024

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


def gateway(
    superlink: httpx.AsyncClient,
    chain: httpx.AsyncClient | None = None,
    join: Callable[[bytes], Mapping[str, Any]] | None = None,
    federation: Callable[[], Mapping[str, Any]] | None = None,
    public: Callable[[str], bytes | None] | None = None,
) -> Starlette:
    """Return the application that passes calls on.

    Parameters
    ----------
    superlink : httpx.AsyncClient
        With the SuperLink's address as its base.
    chain : httpx.AsyncClient, optional
        With the chain node's; without it there is no chain behind the door.
    join : callable, optional
        Takes an answer to an invitation, and returns what is said to it; see
        :meth:`server_app.reception.Reception.join`. Called in a thread.
    federation : callable, optional
        Returns what everybody may know of the federation. Called in a thread.
    public : callable, optional
        Returns the file of a hash that is handed out to all, ``None`` where there is none. It is
        given 64 hexadecimal digits and nothing else. Called in a thread.
    """
    routes = [
        Route("/health", _passed(superlink, "GET", "/health"), methods=["GET"]),
        *(
            Route(path, _passed(superlink, "POST", path), methods=["POST"])
            for path in (f"/v1/fleet/{call}" for call in FLEET_CALLS)
        ),
    ]
    if chain is not None:
        routes.append(Route(DOOR_PATH, _passed(chain, "POST", "/"), methods=["POST"]))
    if join is not None:
        routes.append(Route(JOIN_PATH, _joined(join), methods=["POST"]))
    if federation is not None:
        routes.append(Route(FEDERATION_PATH, _told(federation), methods=["GET"]))
    if public is not None:
        routes.append(Route(f"{PUBLIC_PATH}/{{hash}}", _handed_out(public), methods=["GET"]))

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
        content = await _content(request, MAX_REQUEST_BYTES)
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

    return _answered(pass_on)


def _joined(
    join: Callable[[bytes], Mapping[str, Any]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            content = await _content(request, MAX_ANSWER_BYTES)
            return JSONResponse(await run_in_threadpool(join, content))
        except JoiningError as error:
            return JSONResponse({"error": str(error)}, status_code=403)
        except RegistrarError as error:
            _LOG.warning("%s", error)
            return PlainTextResponse("not reachable at the moment", status_code=502)

    return _answered(answer)


def _told(tell: Callable[[], Mapping[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(tell))

    return answer


def _handed_out(public: Callable[[str], bytes | None]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        wanted = request.path_params["hash"]
        found = await run_in_threadpool(public, wanted) if HASH.fullmatch(wanted) else None
        if found is None:
            return PlainTextResponse("Not Found", status_code=404)
        return Response(found, media_type="application/octet-stream")

    return answer


def _answered(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Answer what cannot be read in one way."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except _TooLongError as error:
            return PlainTextResponse(str(error), status_code=413)
        except ClientDisconnect:
            return PlainTextResponse("", status_code=400)

    return answer


async def _content(request: Request, most: int) -> bytes:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > most:
            raise _TooLongError(f"a request of more than {most} bytes")
    return bytes(content)


def _travelling(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
