"""Made-up tasks and leaves, and ways to make a real chain behave badly."""

import hashlib
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from blockchain.chain_records import DisputeTerms
from blockchain.chain_settings import ChainSettings
from blockchain.membership import Founder, Founding, majority
from blockchain.merkle import ACCEPTED, Leaf, organization_id
from blockchain.public_chain import PublicChain
from tests.signing_cases import account_of

_terms = itertools.count()


def digest(text: str) -> bytes:
    """32 bytes that stand for a hash of something."""
    return hashlib.sha256(text.encode()).digest()


GENESIS = digest("genesis")
DISPUTES = DisputeTerms(challenge_window=600, response_window=300, bond=10**15)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fresh_task(chain: PublicChain) -> bytes:
    """A task that no other test uses."""
    return chain.open_task(digest(f"terms {next(_terms)}"), GENESIS, DISPUTES).task


def make_leaves(task: bytes, round: int, count: int) -> list[Leaf]:
    """Leaves of `count` signed updates, every third of them rejected."""
    return [
        Leaf(
            digest=digest(f"{task.hex()} {round} {i}"),
            index=i,
            verdict=7 if i % 3 == 2 else ACCEPTED,
        )
        for i in range(count)
    ]


def founding_of(coordinator: str, *names: str) -> Founding:
    """A registry of made-up organizations with the keys of `tests.signing_cases`."""
    names = names or ("cinema", "microblog", "shop")
    return Founding(
        founders=tuple(
            Founder(organization_id(name), account_of(name).address, digest(name), digest(name))
            for name in names
        ),
        threshold=majority(len(names)),
        attestors=tuple(organization_id(name) for name in names[:2]),
        attestor_threshold=len(names[:2]),
        coordinators=(coordinator,),
        pauser=coordinator,
        recovery_delay=3600,
    )


def ask(settings: ChainSettings, method: str, *params: Any) -> Any:
    """Call a method of the node that Foedus itself never calls."""
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = requests.post(str(settings.rpc_url), json=question, timeout=10).json()
    assert "error" not in answer, answer
    return answer["result"]


@contextmanager
def mined_every(settings: ChainSettings, milliseconds: int) -> Iterator[None]:
    """Mine blocks by the clock, not one for each transaction, as real chains do."""
    ask(settings, "evm_setAutomine", False)
    ask(settings, "evm_setIntervalMining", milliseconds)
    try:
        yield
    finally:
        ask(settings, "evm_setIntervalMining", 0)
        ask(settings, "evm_setAutomine", True)


@contextmanager
def losing_answers(settings: ChainSettings, method: str, times: int) -> Iterator[ChainSettings]:
    """Settings of a way to the node on which the first answers to `method` are lost.

    The node has done what was asked by then; only its answer does not arrive.
    """
    left = itertools.count(times, -1)

    class Forward(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {"Content-Type": "application/json"}
            answer = requests.post(str(settings.rpc_url), data=body, headers=headers, timeout=10)
            if json.loads(body)["method"] == method and next(left) > 0:
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _served(Forward) as port:
        yield changed(settings, rpc_url=f"http://127.0.0.1:{port}")


def changed(settings: ChainSettings, **fields: object) -> ChainSettings:
    """Settings with some fields changed."""
    return ChainSettings.model_validate({**settings.model_dump(), **fields})


@contextmanager
def refusing(
    settings: ChainSettings, refused: Callable[[dict[str, Any]], bool]
) -> Iterator[ChainSettings]:
    """Settings of a way to the node on which some requests are answered with an error."""

    class Forward(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            if refused(request):
                error = {"code": -32005, "message": "refused by the test"}
                content = json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error})
                self._send(content.encode())
                return
            headers = {"Content-Type": "application/json"}
            url = str(settings.rpc_url)
            self._send(requests.post(url, data=body, headers=headers, timeout=10).content)

        def _send(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _served(Forward) as port:
        yield changed(settings, rpc_url=f"http://127.0.0.1:{port}")


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
