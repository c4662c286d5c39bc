"""`python -m benchmarks`: what is missing is run, and noted under a hash of its inputs."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as benches
from benchmarks.__main__ import BENCHMARKS, Benchmark, main


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The commands that were run; one that has `fails` in it ends with status 1."""
    commands: list[str] = []

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        commands.append(" ".join(command[2:]))
        return subprocess.CompletedProcess(command, int("fails" in command))

    monkeypatch.setattr(benches.subprocess, "run", run)
    monkeypatch.setenv("FOEDUS_CACHE", str(tmp_path))
    return commands


def made(monkeypatch: pytest.MonkeyPatch, *benchmarks: Benchmark) -> None:
    monkeypatch.setattr(benches, "BENCHMARKS", benchmarks)


def test_what_was_done_is_not_done_again_and_what_failed_is(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Benchmark("benchmarks.chain_scale", ("--sizes", "4"))
    bad = Benchmark("benchmarks.chain_scale", ("fails",))
    own = Benchmark("benchmarks.experiments", ("run", "rules"), resumes=True)
    made(monkeypatch, good, bad, own)
    commands = [" ".join([one.module, *one.arguments]) for one in (good, bad, own)]
    assert main([]) == 1
    assert ran == commands
    assert "failed: python -m benchmarks.chain_scale fails" in capsys.readouterr().err
    ran.clear()
    assert main([]) == 1
    assert ran == commands[1:]
    ran.clear()
    assert main(["--again", "--only", "sizes"]) == 0
    assert ran == commands[:1]
    ran.clear()
    assert main(["--list"]) == 0
    assert ran == []
    assert "missing" in capsys.readouterr().out


def test_what_was_stopped_is_named_and_done_when_called_again(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(
        monkeypatch,
        Benchmark("benchmarks.chain_scale", ("--sizes", "4")),
        Benchmark("benchmarks.chain_scale", ("--sizes", "10")),
    )
    carry_out = benches.subprocess.run

    def stopped(command: list[str], **given: Any) -> "subprocess.CompletedProcess[str]":
        if "10" in command:
            raise KeyboardInterrupt
        return carry_out(command, **given)

    with monkeypatch.context() as patched:
        patched.setattr(benches.subprocess, "run", stopped)
        assert main([]) == 130
    said = capsys.readouterr().err
    assert "goes on with python -m benchmarks.chain_scale --sizes 10" in " ".join(said.split())
    assert main([]) == 0
    assert ran == ["benchmarks.chain_scale --sizes 4", "benchmarks.chain_scale --sizes 10"]


def test_another_argument_and_other_sources_are_other_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benches, "_FOLDER", tmp_path)
    (tmp_path / "one.py").write_text("1")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "part.py").write_text("2")
    one, two = Benchmark("benchmarks.one"), Benchmark("benchmarks.two")
    digests = {one.digest, two.digest, Benchmark("benchmarks.one", ("--again",)).digest}
    (tmp_path / "one.py").write_text("another")
    (tmp_path / "two" / "part.py").write_text("another")
    assert len(digests | {one.digest, two.digest}) == 5


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda one: one.command)
def test_every_benchmark_is_there_and_knows_its_arguments(benchmark: Benchmark) -> None:
    assert benchmark.digest
    if benchmark.module == "benchmarks.experiments":
        from benchmarks.experiments.__main__ import _parser

        assert _parser().parse_args(benchmark.arguments)
