"""Models and data sets by hub name, fetched by the real libraries from a hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_hub import COMMIT, local_hub
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.real

LOADS = """
import json, sys
from pathlib import Path
from llm.base_model import load_base_model
from llm.datasets import DataSettings, HubSource, load_records
from llm.forms import TextLabelForm
from llm.model_source import BaseModelSettings

cache = Path(sys.argv[1])
base = load_base_model(BaseModelSettings(model="owner/tiny", revision="main"), cache)
form = TextLabelForm(text="text", label="label", words={"0": "bad", "1": "good"})
source = HubSource(path="owner/reviews", form=form)
records = load_records(DataSettings(name="shop", source=source), cache)
print(json.dumps({"model": [base.name, base.fingerprint, str(base.path)],
                  "records": [record.completion for record in records]}))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What a process with an empty cache of its own fetches."""
    folder = tmp_path_factory.mktemp("hub")
    model = build_tiny_model(folder / "model")
    (model / "pytorch_model.bin").write_bytes(b"pickled weights are not asked for")
    rows = folder / "reviews"
    rows.mkdir()
    with (rows / "train.jsonl").open("w") as file:
        for number in range(20):
            file.write(json.dumps({"text": f"film {number}", "label": number % 2}) + "\n")
    with local_hub({"owner/tiny": model}, {"owner/reviews": rows}) as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(folder / "hf")}
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            [sys.executable, "-c", LOADS, str(folder / "cache")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return model, json.loads(done.stdout.splitlines()[-1])


def test_a_model_is_fetched_by_its_hub_name_without_pickled_weights(loaded):
    model, answer = loaded
    name, fingerprint, path = answer["model"]
    assert name == "owner/tiny"
    assert COMMIT in path
    assert len(fingerprint) == 64
    assert not (Path(path) / "pytorch_model.bin").exists()
    assert (Path(path) / "config.json").read_bytes() == (model / "config.json").read_bytes()


def test_a_data_set_is_fetched_by_its_hub_name(loaded):
    _, answer = loaded
    assert [completion.strip() for completion in answer["records"]] == ["bad", "good"] * 10


def test_a_name_the_hub_does_not_know_is_refused_in_one_line(tmp_path):
    asks = (
        "import sys; from pathlib import Path; from llm.model_source import *\n"
        "try: base_model_path(BaseModelSettings(model='owner/none'), Path(sys.argv[1]))\n"
        "except BaseModelError as error: print(error)"
    )
    with local_hub({}, {}) as address:
        done = subprocess.run(
            [sys.executable, "-c", asks, str(tmp_path)],
            env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")},
            capture_output=True,
            text=True,
            check=True,
        )
    [line] = done.stdout.splitlines()
    assert line.startswith("owner/none: the Hugging Face hub refused it (404)")
