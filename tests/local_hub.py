"""A Hugging Face hub on this machine: its protocol, as far as fetching goes, over local folders."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Of every repository here; what a real hub names its commits by has as many digits.
COMMIT = "1" * 40


@contextmanager
def local_hub(models: dict[str, Path], datasets: dict[str, Path]) -> Iterator[str]:
    """Serve folders under repository names (``owner/name``); gives the hub's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = json.loads(self.rfile.read(length) or b"{}")
            kind, name, rest = self._api()
            folder = self._folder(kind, name)
            if folder is None or not rest.startswith("paths-info/"):
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                return
            found = [entry for entry in _entries(folder) if entry["path"] in asked["paths"]]
            self._json(found)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/"):
                self._answer_api()
                return
            kind = "datasets" if path.startswith("/datasets/") else "models"
            owner, name, _, _, *file = path.removeprefix("/datasets").strip("/").split("/")
            folder = self._folder(kind, f"{owner}/{name}")
            if folder is None or not (folder / "/".join(file)).is_file():
                code = "RepoNotFound" if folder is None else "EntryNotFound"
                self._send(404, b"", {"X-Error-Code": code})
                return
            content = (folder / "/".join(file)).read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            self._send(
                200,
                content if with_body else b"",
                {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT},
                length=len(content),
            )

        def _answer_api(self) -> None:
            kind, name, rest = self._api()
            folder = self._folder(kind, name)
            if folder is None:
                self._send(
                    404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}
                )
            elif rest.startswith("tree/"):
                self._json(_entries(folder))
            else:
                files = [{"rfilename": entry["path"]} for entry in _entries(folder)]
                self._json({"id": name, "sha": COMMIT, "siblings": files, "private": False})

        def _api(self) -> tuple[str, str, str]:
            _, kind, owner, name, *rest = unquote(urlsplit(self.path).path).strip("/").split("/")
            return kind, f"{owner}/{name}", "/".join(rest)

        def _folder(self, kind: str, name: str) -> Path | None:
            return (models if kind == "models" else datasets).get(name)

        def _json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(
            self, status: int, body: bytes, headers: dict[str, str], length: int | None = None
        ) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entries(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
