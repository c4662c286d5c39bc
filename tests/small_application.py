"""A Flower application that asks its one node something, and writes down what is answered."""

import hashlib
import subprocess
import time
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

SERVER = """
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
import time
app = ServerApp()

@app.main()
def main(grid, context):
    while not list(grid.get_node_ids()):
        time.sleep(0.2)
    [node] = grid.get_node_ids()
    content = RecordDict({"header": ConfigRecord({})})
    message = Message(content=content, message_type="query", dst_node_id=node, group_id="1")
    [reply] = grid.send_and_receive([message], timeout=120)
    said = reply.error.reason if reply.has_error() else "answered"
    Path(context.run_config["answer"]).write_text(said)
"""


def application(folder: Path, client: str, answer: Path) -> Path:
    """Write an application with this client; the server writes into a file what it answers."""
    package = folder / "small_app"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "server.py").write_text(SERVER)
    (package / "client.py").write_text(client)
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'small-app'\nversion = '1.0.0'\ndescription = 'd'\n"
        "license = 'Apache-2.0'\n"
        "[tool.flwr.app]\npublisher = 'somebody'\n"
        "[tool.flwr.app.components]\nserverapp = 'small_app.server:app'\n"
        "clientapp = 'small_app.client:app'\n"
        f"[tool.flwr.app.config]\nanswer = {str(answer)!r}\nbundle = ''\n"
    )
    return folder


def sha256(app: Path) -> str:
    return hashlib.sha256(build_fab_from_disk(app)).hexdigest()


def answered(app: Path, env: dict[str, str], bundle: str, answer: Path) -> str:
    """Submit a run, and return what became of its one message."""
    answer.unlink(missing_ok=True)
    subprocess.run(
        ["flwr", "run", str(app), "here", "--run-config", f'bundle="{bundle}"'],
        env=env,
        check=True,
        capture_output=True,
    )
    deadline = time.monotonic() + 120
    while not answer.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer.read_text()
