"""No task's token stands where everybody on its machine can read it."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from client_app.deployment.flower import flower_environment
from client_app.deployment.flower_commands import write_guard, write_launcher
from client_app.task_launcher import TokenNotFoundError, start_task
from tests.deployed_flower import superlink, supernode
from tests.small_application import answered, application, sha256

CLIENT = """
from pathlib import Path
import psutil
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.query()
def query(message, context):
    # Others of this machine have tasks as well, and processes end while they are looked at.
    ours = [
        process.info["cmdline"] for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("FLWR_HOME", "").startswith(FOLDER)
    ]
    said = "\\n".join(
        argument for arguments in ours for argument in arguments or []
        if "token" in argument or "flwr-" in argument
    )
    Path(ARGUMENTS).write_text(said)
    return Message(RecordDict(), reply_to=message)
"""
READ = "import sys, pathlib; print(pathlib.Path(sys.argv[-1]).read_text(), sys.argv[1:])"


@pytest.mark.real
def test_no_token_is_in_the_arguments_of_a_servers_or_clients_process(tmp_path):
    """While the client is asked, the processes of both run."""
    answer, arguments = tmp_path / "answer", tmp_path / "arguments"
    places = f"ARGUMENTS, FOLDER = {str(arguments)!r}, {str(tmp_path)!r}"
    app = application(tmp_path / "app", f"{places}\n{CLIENT}", answer)
    agreed = sha256(app)
    launcher = write_launcher(tmp_path / "coordinator" / "bin")
    with superlink(tmp_path / "coordinator", launcher) as port:
        env = flower_environment(tmp_path / "coordinator")
        path = write_guard(write_launcher(tmp_path / "bin"), [agreed])
        with supernode(tmp_path / "node", port, path, 'organization="shop"') as log:
            assert answered(app, env, agreed, answer) == "answered", log.read_text()
    found = arguments.read_text().splitlines()
    assert sum(argument.endswith("flwr-serverapp") for argument in found) == 1
    assert found.count("--token-file") == 2
    assert not [one for one in found if one.startswith("--token") and one != "--token-file"]


def test_a_task_reads_its_token_from_a_file_that_nobody_else_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", READ, "--token", "ab12"]
    with start_task(command, stdout=subprocess.PIPE, cwd=tmp_path) as task:
        told = task.communicate()[0].decode()
    assert told.startswith("ab12 ['--token-file', '/dev/fd/")
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(
    "arguments", [[], ["--token"], ["--token", "a", "--token", "b"], ["--token=ab12"]]
)
def test_one_whose_token_is_not_found_is_not_started_and_not_named(arguments):
    with pytest.raises(TokenNotFoundError, match=r"flwr-clientapp: expected --token") as caught:
        start_task(["flwr-clientapp", *arguments])
    assert "ab12" not in str(caught.value)
