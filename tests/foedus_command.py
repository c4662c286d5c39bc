"""The `foedus` command in this process; import the fixture where it is used."""

import signal
import sys
from collections.abc import Callable

import pytest

from client_app.cli import command


@pytest.fixture
def foedus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command; returns status, output and errors."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["foedus", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run
