"""End to end: `foedus run` on Flower's own engine, with a real Hardhat node.

Most runs are of a few rows from files: they are here for what happens between processes. One is of
the embedded data.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager

import pytest
import torch

from client_app.cli.run import _write_page
from client_app.own_data import load_own_data
from llm.draw import draw
from server_app.coordinator import coordinate
from strategies.audit import audit
from strategies.run_archive import RunArchive
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings, SettingsError
from tests.chain_samples import free_port
from tests.foedus_command import foedus
from tests.foedus_home import BIN, foedus_home, shared_cache, wait_for
from tests.organization_cases import MARKER, write_reviews
from tests.tiny_model import build_tiny_model
from tests.whole_federation import store_keys, write_data

__all__ = ["foedus"]

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

NAME = "treaty"
ORGANIZATIONS = ("north", "south")
EMBEDDED = ("cinema", "microblog", "newspaper", "shop")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def settings(model, **changes):
    """`-c KEY=VALUE` of a small run; the order of keyword arguments is kept."""
    config = {
        "run-name": NAME,
        "organizations": ",".join(ORGANIZATIONS),
        "rounds": 2,
        "records-per-round": 32,
        "validation-records": 4,
        "model": json.dumps(str(model)),
        "quantization": "none",
        "compute-dtype": "float32",
        "rank": 4,
        # Steps enough that right answers are learned, and earn.
        "learning-rate": 0.02,
        "batch-size": 4,
        "micro-batch-size": 4,
        "max-tokens": 64,
        # With windows of a second what a run earned is final as soon as it has ended.
        "challenge-window": 1,
        "response-window": 1,
        **{key.replace("_", "-"): value for key, value in changes.items()},
    }
    return [part for key, value in config.items() for part in ("-c", f"{key}={value}")]


def of_files(data):
    """Where a run's rows lie that are not the embedded ones, as `settings` takes it."""
    return {
        "data": json.dumps(f"{data}/{{organization}}.jsonl"),
        "data_fields": "id=id",
        "public_validation": json.dumps(f"{data}/public.jsonl"),
    }


@pytest.fixture(scope="module")
def finished(model, data, tmp_path_factory):
    """A home with one finished run, its chain running, and what the command printed."""
    with foedus_home(tmp_path_factory.mktemp("finished") / "home") as home:
        named = settings(model, chain_port=free_port(), **of_files(data))
        home.done = home.foedus("run", "--json", *named)
        assert home.done.returncode == 0, home.done.stderr[-3000:]
        yield home


@pytest.fixture
def afterwards(finished, foedus, monkeypatch):
    """The command in this process, which has loaded already what others would have to."""
    for name in ("FOEDUS_HOME", "FOEDUS_CACHE"):
        monkeypatch.setenv(name, finished.environment[name])
    return foedus


def one_line_of(errors):
    """The one line of an error; progress bars may stand before it."""
    lines = [line for line in errors.splitlines() if line.startswith("foedus: ")]
    assert "Traceback" not in errors
    assert len(lines) == 1, errors
    return lines[0]


@contextmanager
def one_thread():
    """Many small products in a row: a second thread would only be waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_run_ends_with_a_summary_of_every_organization(finished, model):
    summary = json.loads(finished.done.stdout)
    assert summary == json.loads((finished.run_folder(NAME) / "summary.json").read_text())
    assert summary["model"] == str(model)
    assert (summary["quantization"], summary["strategy"], summary["rounds"]) == ("none", "ffa", 2)
    assert tuple(summary["organizations"]) == ORGANIZATIONS
    accuracies = [entry["accuracy"] for entry in summary["organizations"].values()]
    assert summary["mean_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert all(entry["test_rows"] >= 10 for entry in summary["organizations"].values())
    assert all(entry["loss"] < entry["base_loss"] for entry in summary["organizations"].values())
    assert {"setup", "train", "evaluate", "chain", "total"} <= summary["seconds"].keys()
    # The third seals what the second round earned.
    assert len(summary["chain"]["seals"]) == 3
    assert summary["chain"]["attested"] == [1, 2, 3]
    assert sum(entry["reward_gwei"] for entry in summary["organizations"].values()) > 0
    assert summary["chain"]["gas_used"] > sum(s["gas_used"] for s in summary["chain"]["seals"])
    assert re.fullmatch("0x[0-9a-fA-F]{40}", summary["chain"]["contracts"]["Rounds"])


def test_a_run_leaves_its_chain_and_nothing_else_running(finished):
    assert finished.flower_processes() == []
    status = json.loads(finished.foedus("chain", "status", "--json").stdout)
    assert status["running"]
    assert status["block"] >= 5


def test_every_round_is_logged_with_every_organization(finished):
    events = finished.events(NAME)
    for kind, rounds in (
        # The third is not opened for training: it seals what the second earned.
        ("round-opened", [1, 2]),
        ("round-sealed", [1, 2, 3]),
        ("round-attested", [1, 2, 3]),
    ):
        assert [event["round"] for event in events if event["event"] == kind] == rounds
    accepted = [e["organization"] for e in events if e["event"] == "update-accepted"]
    assert accepted == [*ORGANIZATIONS, *ORGANIZATIONS]
    assert events[-1]["event"] == "run-finished"


def test_a_valid_run_verifies_and_one_changed_byte_does_not(finished, afterwards):
    held = finished.foedus("verify", "--json")
    assert held.returncode == 0, held.stdout + held.stderr
    report = json.loads(held.stdout)
    assert (report["run"], report["holds"]) == (NAME, True)
    assert all(check["holds"] for check in report["checks"])
    update = next((finished.run_folder(NAME) / "updates").iterdir())
    flip(update)
    try:
        status, said, _ = afterwards("verify")
    finally:
        flip(update)
    assert status == 1
    assert update.name in said


def test_a_report_of_the_run_shows_it_and_nothing_of_a_private_ledger(
    finished, afterwards, tmp_path
):
    page = tmp_path / "deep" / "run.html"
    status, said, errors = afterwards("report", "--output", str(page), "--json")
    assert status == 0, errors
    assert json.loads(said) == {"file": str(page), "holds": True, "problems": []}
    shown = page.read_text()
    summary = json.loads(finished.done.stdout)
    for entry in summary["organizations"].values():
        assert f"{entry['accuracy']:.3f}" in shown
        assert f"{entry['reward_gwei']:,}" in shown
    for seal in summary["chain"]["seals"]:
        assert seal["transaction"][:12] in shown
    # What only a ledger knows: roots, anchors, how many records, how the agent chose.
    for name in ORGANIZATIONS:
        status, said, _ = afterwards("ledger", "verify", "--org", name, "--json")
        assert status == 0
        assert json.loads(said)["root"] not in shown
        assert "agent-decision" not in shown
        assert "probability" not in shown


def test_a_report_of_an_organization_is_of_its_ledger_alone(finished, afterwards, tmp_path):
    page = tmp_path / "north.html"
    status, _, errors = afterwards("report", "--org", "north", "--output", str(page))
    assert status == 0, errors
    shown = page.read_text()
    assert "agent-decision" in shown
    assert shown.count(">included<") == 2
    assert "south" not in shown
    status, said, _ = afterwards("ledger", "show", "--org", "north", "--reads", "--json")
    assert status == 0
    assert "foedus report" in said


def test_a_report_of_a_run_that_does_not_hold_says_so_and_is_written_all_the_same(
    finished, afterwards, tmp_path
):
    update = next((finished.run_folder(NAME) / "updates").iterdir())
    page = tmp_path / "run.html"
    flip(update)
    try:
        status, said, _ = afterwards("report", "--output", str(page))
    finally:
        flip(update)
    assert status == 1
    assert update.name in said
    assert update.name in page.read_text()
    assert "FAILS" in page.read_text()


def test_a_run_ends_with_the_path_of_its_report(finished, afterwards, capsys):
    _write_page(finished.run_folder(NAME))
    page = finished.path / "reports" / f"{NAME}.html"
    assert capsys.readouterr().out == f"report: {page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_run_whose_report_cannot_be_written_has_ended_all_the_same(finished, tmp_path, capsys):
    # Away from its chain.
    folder = tmp_path / "runs" / NAME
    shutil.copytree(finished.run_folder(NAME), folder)
    _write_page(folder)
    said = one_line_of(capsys.readouterr().err)
    assert "no report was written: nothing was deployed" in said
    assert "`foedus report` tries again" in said
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--run", "nowhere"], "there is no run 'nowhere'"),
        (["--org", "nobody"], "there is no ledger of 'nobody'"),
        (["--org", "north", "--run", NAME], "not both"),
        (["--output", "/proc/nowhere/page.html"], "/proc/nowhere/page.html"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_line(afterwards, arguments, expected):
    status, _, errors = afterwards("report", *arguments)
    assert status == 2
    assert expected in one_line_of(errors)


def test_every_organization_holds_a_receipt_for_both_rounds(finished):
    for name in ORGANIZATIONS:
        (task,) = (finished.path / "organizations" / name / "tasks").iterdir()
        for number in (1, 2):
            kept = json.loads((task / f"round-{number:04d}.json").read_text())
            assert kept["receipt"]["verdict"] == 0
        assert (task / "closing.json").is_file()


def test_the_adapter_in_plain_transformers_and_peft_has_the_summarys_accuracy(finished, model):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    summary = json.loads(finished.done.stdout)
    tokenizer = AutoTokenizer.from_pretrained(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    peft = PeftModel.from_pretrained(base, summary["adapter"]).eval()
    run = json.loads((finished.run_folder(NAME) / "run.json").read_text())
    records = load_own_data(
        RunSettings.from_run_config(run["settings"]), "south", shared_cache()
    ).test

    def log_probability(prompt, completion):
        ids = torch.tensor([prompt + completion])
        scores = peft(input_ids=ids).logits[0, -len(completion) - 1 : -1].log_softmax(-1)
        return float(scores.gather(1, ids[0, -len(completion) :, None]).sum())

    def of_choices(record):
        prompt = tokenizer(record.prompt)["input_ids"]
        tokens = {
            choice: tokenizer(choice, add_special_tokens=False)["input_ids"]
            for choice in record.choices
        }
        return {
            choice: log_probability(prompt, tokens[choice]) for choice in record.choices
        }, tokens

    correct = tokens = loss = 0
    with torch.inference_mode(), one_thread():
        for record in records:
            scored, encoded = of_choices(record)
            correct += max(scored, key=scored.get) == record.completion
            loss -= scored[record.completion]
            tokens += len(encoded[record.completion])
    south = summary["organizations"]["south"]
    assert len(records) == south["test_rows"]
    assert loss / tokens == pytest.approx(south["loss"], rel=1e-4)
    # One row may stand on a knife's edge between two ways of adding up the same numbers.
    assert abs(correct / len(records) - south["accuracy"]) <= 1 / len(records)


def test_a_prompt_is_answered_by_base_and_adapter(afterwards):
    status, said, errors = afterwards(
        "generate", "Sentiment: [/b]", "--json", "--max-new-tokens", "3"
    )
    assert status == 0, errors
    answer = json.loads(said)
    assert answer["prompt"] == "Sentiment: [/b]"
    assert isinstance(answer["base"], str)
    assert answer["adapter_folder"].endswith("rounds/0003/adapter")


def test_a_run_killed_in_its_second_round_resumes_to_the_same_adapter(
    finished, model, data, tmp_path
):
    with foedus_home(tmp_path / "home") as home:
        store_keys(home.path, *ORGANIZATIONS)
        named = settings(model, chain_port=free_port(), **of_files(data))
        process = home.start("run", *named)
        try:
            wait_for(
                lambda: (
                    process.poll() is not None
                    or any(event["event"] == "round-sealed" for event in home.events(NAME))
                )
            )
            process.send_signal(signal.SIGKILL)
            home.kill_flower()
        finally:
            process.kill()
            process.wait()
        sealed = [e["round"] for e in home.events(NAME) if e["event"] == "round-sealed"]
        assert sealed == [1], (tmp_path / "home.out").read_text()[-3000:]
        assert json.loads((home.run_folder(NAME) / "run.json").read_text())["status"] == "running"

        resumed = home.foedus("run", "--resume", "--json", *named[2:])
        assert resumed.returncode == 0, resumed.stderr[-3000:]
        assert any(event["event"] == "run-resumed" for event in home.events(NAME))
        for name in ("adapter/adapter_model.safetensors", "state.safetensors"):
            here, there = (h.run_folder(NAME) / "rounds" / "0002" / name for h in (home, finished))
            assert here.read_bytes() == there.read_bytes()
        config = json.loads((home.run_folder(NAME) / "run.json").read_text())["settings"]
        chain = open_reading_chain(RunSettings.from_run_config(config))
        assert all(c.holds for c in audit(RunArchive(home.run_folder(NAME)), chain))
        summaries = [json.loads(out) for out in (resumed.stdout, finished.done.stdout)]
        assert summaries[0]["organizations"] == summaries[1]["organizations"]
        # The whole run's, not the second attempt's: two hashes differ by a few zero bytes at most.
        gas = [summary["chain"]["gas_used"] for summary in summaries]
        assert abs(gas[0] - gas[1]) < 1_000
        log = (home.run_folder(NAME) / "run.log").read_text()
        assert log.count('"run-started"') == 2


def test_other_terms_do_not_resume_a_run_nor_mark_it_as_failed(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("FOEDUS_CACHE", str(shared_cache()))
    shutil.copytree(finished.run_folder(NAME), tmp_path / "runs" / NAME)
    entry = tmp_path / "runs" / NAME / "run.json"
    before = entry.read_bytes()
    config = {**json.loads(before)["settings"], "home": str(tmp_path)}
    longer = RunSettings.from_run_config({**config, "resume": True, "rounds": 3})
    with pytest.raises(SettingsError, match="rounds was 2, is 3"):
        coordinate(longer, grid=None)
    assert entry.read_bytes() == before


def test_a_malformed_row_ends_with_status_1_and_file_and_line_before_any_round(model, tmp_path):
    for name in ORGANIZATIONS:
        write_reviews(tmp_path / f"{name}.jsonl")
    with (tmp_path / "south.jsonl").open("a") as file:
        file.write(f'{{"text": "{MARKER}", "label": "{MARKER}"}}\n')
    changes = {
        "data": f"{tmp_path}/{{organization}}.jsonl",
        "chain_port": free_port(),
    }
    with foedus_home(tmp_path / "home") as home:
        done = home.foedus("run", *settings(model, **changes))
        assert done.returncode == 1
        assert f"{tmp_path}/south.jsonl:61: " in one_line_of(done.stderr)
        assert MARKER not in done.stderr + done.stdout
        assert home.events(NAME) == []
        assert home.flower_processes() == []


def test_flwr_run_itself_does_the_same_job_and_a_failing_client_is_seen(model, tmp_path):
    project = tmp_path / "project"
    from client_app.cli.app_bundle import stage_app

    stage_app(project)
    with foedus_home(tmp_path / "home") as home:
        store_keys(home.path, *EMBEDDED)
        home.flower_home.mkdir(parents=True)
        (home.flower_home / "config.toml").write_text(
            '[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = ":local-in-memory:"\n'
        )
        environment = {
            **home.environment,
            "FLWR_HOME": str(home.flower_home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
            "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

        where = {"home": json.dumps(str(home.path)), "chain_port": free_port()}

        def flwr_run(**changes):
            pairs = settings(model, rounds=1, participation="always", **where, **changes)[1::2]
            quoted = [
                pair if re.search(r'=(\d|")', pair) else re.sub("=(.*)", r'="\1"', pair)
                for pair in pairs
            ]
            subprocess.run(
                [BIN / "flwr", "run", str(project), "--run-config", " ".join(quoted)],
                env=environment,
                check=True,
                capture_output=True,
                timeout=120,
            )

        def status(name):
            entry = home.run_folder(name) / "run.json"
            return json.loads(entry.read_text()).get("status") if entry.is_file() else None

        # Two nodes by default: each answers for two organizations, of which one attests.
        flwr_run(organizations=",".join(EMBEDDED), attestors=",".join(EMBEDDED[:2]), max_tokens=128)
        wait_for(lambda: status(NAME) in ("finished", "failed"))
        entry = json.loads((home.run_folder(NAME) / "run.json").read_text())
        assert entry["status"] == "finished", entry.get("error")
        summary = json.loads((home.run_folder(NAME) / "summary.json").read_text())
        assert tuple(summary["organizations"]) == EMBEDDED
        assert all(entry["test_rows"] > 400 for entry in summary["organizations"].values())
        assert summary["chain"]["attested"] == [1, 2]

        data = write_reviews(tmp_path / "north.jsonl")
        with data.open("a") as file:
            file.write(f'{{"text": "{MARKER}", "label": "{MARKER}"}}\n')
        changes = {
            "run_name": "malformed",
            "organizations": "north",
            "min_organizations": 1,
            "data": json.dumps(str(data)),
        }
        flwr_run(**changes)
        wait_for(lambda: status("malformed") == "failed")
        error = json.loads((home.run_folder("malformed") / "run.json").read_text())["error"]
        assert f"DataError: {data}:61: " in error
        log = (home.run_folder("malformed") / "run.log").read_text()
        assert MARKER not in error + log
        assert "round-opened" not in log


def test_agents_decide_are_paid_and_learn_and_their_ledgers_make_them_again(finished, afterwards):
    def told(*command):
        status, said, errors = afterwards("agent", *command, "--json")
        assert status == 0, said + errors
        return json.loads(said)

    summary = json.loads(finished.done.stdout)
    for name, entry in summary["organizations"].items():
        assert {one["did"] for one in entry["rounds"]} <= {"low", "mid", "high"}
        # The closing message may have come before the last round's reward was final.
        assert told("learn", "--org", name)["waiting"] == 0
        decisions = told("show", "--org", name)["decisions"]
        assert [one["action"] for one in decisions] == [one["did"] for one in entry["rounds"]]
        assert sum(one["tokens"] for one in decisions) == entry["tokens"]
        assert all(one["reward"] is not None for one in decisions)
        paid = sum(int(one["paid_wei"]) for one in decisions)
        assert paid // 10**9 == entry["reward_gwei"]
    assert told("verify", "--org", ORGANIZATIONS[0])["holds"]


def test_a_record_is_forgotten_at_once_and_what_was_made_again_is_made_once_more(finished):
    # Nearly last: the run that the tests before are about is replaced.
    run = RunArchive(finished.run_folder(NAME))
    of_run = RunSettings.from_run_config(run.read_settings())
    rows = load_own_data(of_run, "north", shared_cache()).train
    first, second = (
        {one.id for one in draw(rows, 32, seed=of_run.seed, round=number, organization="north")}
        for number in (1, 2)
    )
    record = min(second - first)
    asked = finished.foedus("unlearn", "--org", "north", "--records", record, "--submit", "--json")
    assert asked.returncode == 0, asked.stderr[-3000:]
    request = json.loads(asked.stdout)["id"]
    said = finished.foedus("receipt", request, "--replay", "--json")
    assert said.returncode == 0, said.stderr[-3000:]
    receipt = json.loads(said.stdout)
    assert (receipt["evidence"]["label"], receipt["holds"]) == ("EXACT_REPLAY", True)
    [round_again] = receipt["replay"]["rounds"]
    assert (round_again["round"], round_again["differences"]) == (2, [])
    assert receipt["checked"][-1].startswith("made once more, to the same bits: round 2 (")


def test_the_chain_stops_on_command(finished, afterwards):
    # Last in the file: nothing else here can be verified without the chain.
    digest = hashlib.sha256((finished.run_folder(NAME) / "run.json").read_bytes()).hexdigest()
    stopped = finished.foedus("chain", "stop", "--json")
    assert json.loads(stopped.stdout) == {"stopped": True}
    status, _, errors = afterwards("verify")
    assert status == 1
    assert "no Ethereum node answers" in one_line_of(errors)
    after = hashlib.sha256((finished.run_folder(NAME) / "run.json").read_bytes()).hexdigest()
    assert after == digest
