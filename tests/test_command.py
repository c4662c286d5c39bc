"""The `foedus` command: one line and a status for every error, JSON that can be read."""

import json
import signal
import sys

import pytest

from client_app.cli import command
from client_app.cli.run import _parse_overrides
from client_app.cli.run_report import print_report
from strategies.run_archive import RunArchive


@pytest.fixture
def foedus(monkeypatch, capsys, tmp_path):
    """Run the command in this process; returns status, output and errors."""
    monkeypatch.setenv("FOEDUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["foedus", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "-c", "rank=many"], "rank: 'many': input should be a valid integer"),
        (["run", "-c", "run_name=a"], "unknown setting 'run_name'"),
        (["run", "-c", "rank"], "--run-config 'rank': expected KEY=VALUE"),
        (["run", "-c", "robust=trimmed-mean", "-c", "aggregation=flora"], "cannot be combined"),
        (["run", "-c", "alpha=1" + "0" * 400], "alpha: "),
        (["run", "-c", "data-template=x"], "data-template: 'x'"),
        (["run", "--resume"], "resume: there is no unfinished run"),
        (["run", "--resume", "-c", "run-name=treaty"], "resume: there is no run 'treaty'"),
        (["verify"], "there is no run under"),
        (["verify", "--run", "treaty"], "there is no run 'treaty' under"),
        (["generate", "Hello"], "there is no run under"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_status_2_and_one_line(foedus, arguments, said, tmp_path):
    status, out, err = foedus(*arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith("foedus: ")
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_a_run_under_a_name_that_is_taken_is_refused_before_any_work(foedus, tmp_path):
    archive = RunArchive(tmp_path / "home" / "runs" / "treaty")
    archive.write_run({"status": "finished"})
    status, _, err = foedus("run", "-c", "run-name=treaty")
    assert status == 2
    assert "run-name: 'treaty' exists" in err
    assert archive.read_run() == {"status": "finished"}
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["runs"]


@pytest.mark.parametrize("asked", [["verify"], ["generate", "Hello"]])
def test_a_run_that_failed_before_it_began_says_why_when_asked_for(foedus, tmp_path, asked):
    archive = RunArchive(tmp_path / "home" / "runs" / "treaty")
    archive.write_run({"status": "failed", "error": "BaseModelError: no such folder"})
    status, _, err = foedus(*asked)
    assert status == 1
    assert "run treaty has nothing to show: BaseModelError: no such folder" in err
    assert len(err.strip().splitlines()) == 1


def test_a_damaged_run_is_named_and_no_traceback(foedus, tmp_path):
    archive = RunArchive(tmp_path / "home" / "runs" / "treaty")
    (archive.folder / "run.json").write_text("{")
    status, _, err = foedus("verify", "--run", "treaty")
    assert status == 1
    assert str(archive.folder / "run.json") in err
    assert len(err.strip().splitlines()) == 1


def test_a_chain_that_does_not_run_has_status_1_and_says_so_as_json(foedus):
    status, out, _ = foedus("chain", "status", "--json")
    assert status == 1
    assert json.loads(out)["running"] is False
    status, out, _ = foedus("chain", "stop", "--json")
    assert (status, json.loads(out)) == (0, {"stopped": False})


def test_the_version_is_printed(foedus):
    status, out, _ = foedus("--version")
    assert status == 0
    assert out.startswith("foedus ")


@pytest.mark.parametrize(
    ("pair", "parsed"),
    [
        ("rounds=3", {"rounds": 3}),
        ("alpha=0.5", {"alpha": 0.5}),
        ("resume=true", {"resume": True}),
        ("robust=none", {"robust": "none"}),
        ('robust="none"', {"robust": "none"}),
        ("ranks=shop=8,cinema=4", {"ranks": "shop=8,cinema=4"}),
        ("model=/models/llama", {"model": "/models/llama"}),
        ("run-name = treaty ", {"run-name": "treaty"}),
    ],
)
def test_a_value_is_read_as_flwr_reads_it_and_a_bare_word_is_text(pair, parsed):
    assert _parse_overrides([pair]) == parsed


def test_a_report_prints_a_hostile_domain_as_text(capsys):
    from rich.console import Console

    summary = {
        "run": "treaty",
        "rounds": 2,
        "organizations": {
            "shop": {
                "domain": "[/bold] reviews",
                "rows": 10,
                "test_rows": 5,
                "base_accuracy": 0.5,
                "accuracy": None,
                "rounds": [
                    {"did": "high", "earned_gwei": 1234567},
                    {"did": "declined", "earned_gwei": 0},
                ],
                "tokens": 40,
                "spent_gwei": 2400000,
                "reward_gwei": 7,
            }
        },
        "mean_base_accuracy": 0.5,
        "mean_accuracy": None,
        "general_text_loss": None,
        "chain": {"contracts": {"Rounds": "0x00"}, "seals": [], "attested": [], "gas_used": 1},
        "seconds": {"total": 1.0},
        "adapter": "/adapter",
        "log": "/log",
    }
    print_report(summary, Console(width=200), simulated=True)
    printed = capsys.readouterr().out
    assert "[/bold] reviews" in printed
    # Who took part, with how much effort, and what it spent.
    for shown in ("high", "1,234", " - ", "2,400"):
        assert shown in printed
    assert "one operator holds all keys" in printed
    # Nobody does on separate machines.
    print_report(summary, Console(width=200), simulated=False)
    assert "one operator" not in capsys.readouterr().out
