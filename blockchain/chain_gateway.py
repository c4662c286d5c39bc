"""The managed chain's only door: JSON-RPC over HTTP with a short list of methods, and a journal.

``python -m blockchain.chain_gateway --folder FOLDER --port PORT`` brings the chain of FOLDER back
from its journal, and serves it on 127.0.0.1 until it is ended. Transactions come signed and raw;
nothing that a development node offers beyond an Ethereum node's usual methods passes (setting
storage, taking blocks back, moving the clock, signing with the node's funded keys).

Whoever owns the machine can still write another journal: the chain is tamper-evident to those who
kept a block's hash, not trustless.
"""

import argparse
import json
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from blockchain.chain_journal import ChainJournal, Head
from blockchain.errors import ChainError, NodeError
from blockchain.private_node import PrivateNode

#: What may be asked. All of it reads, but for the last.
ALLOWED: Final = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "net_version",
        "web3_clientVersion",
        "eth_sendRawTransaction",
    }
)

_HOST: Final = "127.0.0.1"
#: A transaction may have 128 KiB, twice that in hexadecimal.
_MAX_REQUEST_BYTES: Final = 1 << 20
#: How old a new chain's first block is: each block is at least a second later than the one before.
_PAST_SECONDS: Final = 3600

_PARSE_ERROR, _INVALID_REQUEST, _NOT_FOUND, _INTERNAL = -32700, -32600, -32601, -32603


class ManagedChain:
    """The chain behind the door: asked by any thread, one at a time.

    Parameters
    ----------
    node : PrivateNode
        A fresh chain with the journal's first block.
    journal : ChainJournal
        What is replayed on it, and where everything sent is noted first.
    """

    def __init__(self, node: PrivateNode, journal: ChainJournal) -> None:
        self._node = node
        self._journal = journal
        self._turn = threading.Lock()
        #: Why the chain cannot go on: its node ended, or the journal could not be written.
        self.broken = ""

    def replay(self) -> int:
        """Send every transaction of the journal again; return the chain's height.

        Raises
        ------
        NodeError
            If the chain comes to another block than the journal says it once did.
        """
        for entry in self._journal.entries():
            self._mine(entry.raw, entry.time)
            head = self._head()
            if entry.head is None:
                self._journal.mined(head)
            elif head != entry.head:
                raise NodeError(
                    f"{self._journal.path}: replayed, block {head.block} has hash {head.hash}; the "
                    f"journal says block {entry.head.block}, {entry.head.hash}: it was altered, or "
                    "written under another version of Hardhat"
                )
        return self._head().block

    def ask(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Answer one question with JSON-RPC's ``result`` or ``error``."""
        if method not in ALLOWED:
            return _error(_NOT_FOUND, f"the managed chain offers no {method[:64]!r}")
        with self._turn:
            if self.broken:
                # Nothing may follow a line of the journal that was half written.
                return _error(_INTERNAL, self.broken)
            try:
                return self._ask(method, params)
            except (NodeError, OSError) as error:
                self.broken = str(error)
                return _error(_INTERNAL, self.broken)

    def _ask(self, method: str, params: list[Any]) -> dict[str, Any]:
        if method != "eth_sendRawTransaction":
            return self._node.ask(method, params)
        if len(params) != 1 or not isinstance(params[0], str):
            return _error(_INVALID_REQUEST, "expected one raw transaction")
        raw = params[0].lower()
        if not raw.startswith("0x") or not _is_hex(raw[2:]):
            return _error(_INVALID_REQUEST, "expected a raw transaction in hexadecimal")
        # Two blocks never have the same time, however fast they come.
        latest = self._node.result("eth_getBlockByNumber", "latest", False)
        moment = max(int(time.time()), int(latest["timestamp"], 16) + 1)
        self._journal.sending(raw, moment)
        answer = self._mine(raw, moment)
        # A transaction that reverts is answered with an error, and is mined.
        self._journal.mined(self._head())
        return answer

    def _mine(self, raw: str, moment: int) -> dict[str, Any]:
        self._node.result("evm_setNextBlockTimestamp", moment)
        return self._node.ask("eth_sendRawTransaction", [raw])

    def _head(self) -> Head:
        block = self._node.result("eth_getBlockByNumber", "latest", False)
        return Head(int(block["number"], 16), str(block["hash"]))


def serve(folder: Path, port: int) -> None:
    """Bring the chain of a folder back, and serve it until the process ends.

    Raises
    ------
    NodeError
        If the journal cannot be replayed, or the node ends.
    """
    lock = FileLock(folder / "journal.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise NodeError(f"another process serves the chain of {folder}") from None
    initial = datetime.fromtimestamp(int(time.time()) - _PAST_SECONDS, UTC)
    journal = ChainJournal(folder / "journal.jsonl", initial.strftime("%Y-%m-%dT%H:%M:%SZ"))
    with PrivateNode(journal.initial_date, sys.stderr.buffer) as node:
        chain = ManagedChain(node, journal)
        height = chain.replay()
        with ThreadingHTTPServer((_HOST, port), _handler(chain)) as server:
            print(f"serving block {height} on {_HOST}:{port}", file=sys.stderr)  # noqa: T201
            server.serve_forever()
    if chain.broken:
        raise NodeError(chain.broken)


def _handler(chain: ManagedChain) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer leaves in two pieces, head and body: the second would wait 40 ms for the
        # acknowledgement of the first.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > _MAX_REQUEST_BYTES:
                self.close_connection = True
                self._send(413, _error(_INVALID_REQUEST, "a request of at most 1 MiB, please"))
            elif self._from_elsewhere():
                self.close_connection = True
                self._send(403, _error(_INVALID_REQUEST, "this chain is for this machine"))
            else:
                self._send(200, _answer(chain, self.rfile.read(int(length))))
                if chain.broken:
                    # From a thread of its own: it waits for the loop that this answer is part of.
                    threading.Thread(target=self.server.shutdown).start()

        def _from_elsewhere(self) -> bool:
            # A web page in a browser here can reach 127.0.0.1 too, under its own name.
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            return host not in (_HOST, "localhost") or "Origin" in self.headers

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of ordinary requests."""

    return Handler


def _answer(chain: ManagedChain, body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return {"jsonrpc": "2.0", "id": None, **_error(_PARSE_ERROR, "expected JSON")}
    if not isinstance(request, dict):
        said = _error(_INVALID_REQUEST, "expected one request, not a batch")
        return {"jsonrpc": "2.0", "id": None, **said}
    method, params = request.get("method"), request.get("params", [])
    name = request.get("id")
    frame = {"jsonrpc": "2.0", "id": name if isinstance(name, int | str) else None}
    if not isinstance(method, str) or not isinstance(params, list):
        return {**frame, **_error(_INVALID_REQUEST, "expected a method and a list of params")}
    return {**frame, **chain.ask(method, params)}


def _is_hex(text: str) -> bool:
    try:
        return bool(bytes.fromhex(text)) and " " not in text
    except ValueError:
        return False


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def main() -> None:
    """Serve, from the command line; end with the error's line and status 1."""
    parser = argparse.ArgumentParser(prog="python -m blockchain.chain_gateway")
    parser.add_argument("--folder", type=Path, required=True, help="holds journal.jsonl")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    options = parser.parse_args()
    try:
        serve(options.folder, options.port)
    except (ChainError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
