"""Adapters on disk: what PEFT loads is what we evaluated, and damage is named."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm.adapted_model import adapted
from llm.adapters import (
    CONFIG_FILE,
    MODEL_CARD_FILE,
    WEIGHTS_FILE,
    AdapterError,
    LoraAdapter,
    read_adapter,
    save_adapter,
)
from llm.base_model import BaseModel, load_base_model
from llm.embedded_data import embedded_organization
from llm.embedded_model import embedded_model_path
from llm.evaluation import evaluate
from llm.factors import A_SUFFIX, B_SUFFIX
from llm.model_source import BaseModelSettings
from llm.records import Record
from llm.training import TrainedPart, train
from llm.training_settings import TrainingSettings
from tests.real_model import application_cache
from tests.tiny_model import build_tiny_model, start_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(exact, folder)


def plain_accuracy(model: torch.nn.Module, folder: Path, records: list[Record]) -> float:
    """Accuracy in a few lines of transformers and PEFT alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    correct = 0
    for record in records:
        tokens = tokenizer(record.prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            scores = model(input_ids=tokens).logits[0, -1].float()
        ids = [tokenizer(choice).input_ids[0] for choice in record.choices]
        correct += int(record.choices[int(scores[ids].argmax())] == record.completion)
    return correct / len(records)


def test_a_saved_adapter_gives_the_same_logits_in_plain_peft(
    base: BaseModel, tmp_path: Path
) -> None:
    adapter = start_adapter(base)
    save_adapter(tmp_path / "adapter", adapter, base_model=base.name)
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    peft = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    tokens = torch.arange(5, 45)[None]
    with torch.no_grad(), adapted(base, adapter):
        torch.testing.assert_close(
            base.model(tokens).logits, peft(input_ids=tokens).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.real
def test_a_trained_adapter_has_the_same_accuracy_in_plain_transformers_and_peft(
    tmp_path: Path,
) -> None:
    cache = application_cache()
    folder = embedded_model_path(cache)
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    base = load_base_model(exact, cache)
    data = embedded_organization("shop", cache)
    # Short ones: in this type each token takes its time.
    learned, test = (
        sorted(rows, key=lambda record: (len(record.prompt), record.id))[:count]
        for rows, count in ((data.train, 8), (data.test, 16))
    )
    start = start_adapter(base, rank=8, alpha=16)
    silent = LoraAdapter(
        {n: x if n.endswith(A_SUFFIX) else x * 0 for n, x in start.arrays.items()}, start.alpha
    )
    part = TrainedPart(train_a=False, train_b=True, rank=8)
    settings = TrainingSettings(batch_size=4, warmup_steps=1)
    update = train(base, learned, silent, part, settings, seed=1).arrays
    trained = LoraAdapter(
        {n: (x + update[n] if n in update else x) for n, x in silent.arrays.items()}, start.alpha
    )
    save_adapter(tmp_path / "adapter", trained, base_model=str(folder))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    peft = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    accuracy = evaluate(base, test, trained).accuracy
    assert accuracy == plain_accuracy(peft, folder, test)
    assert accuracy != evaluate(base, test).accuracy


adapters = st.builds(
    lambda rank, alpha, seed: LoraAdapter(
        {
            f"base_model.model.layer{i}{suffix}": np.random.default_rng(seed + i)
            .standard_normal(shape)
            .astype(np.float32)
            for i in range(2)
            for suffix, shape in ((A_SUFFIX, (rank, 6)), (B_SUFFIX, (4 + i, rank)))
        },
        alpha,
    ),
    rank=st.integers(1, 5),
    alpha=st.one_of(st.integers(1, 64).map(float), st.floats(0.01, 100)),
    seed=st.integers(0, 1000),
)


@given(adapter=adapters)
@settings(max_examples=25, deadline=None)
def test_what_is_saved_is_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, adapter: LoraAdapter
) -> None:
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    save_adapter(folder, adapter, base_model="some/model", model_card="# Card\n")
    read = read_adapter(folder)
    assert read.alpha == adapter.alpha
    assert read.scale == adapter.scale
    assert read.arrays.keys() == adapter.arrays.keys()
    assert all(np.array_equal(read.arrays[n], adapter.arrays[n]) for n in adapter.arrays)
    assert (folder / MODEL_CARD_FILE).read_text() == "# Card\n"


@given(adapter=adapters, base_model=st.text("äß漢-/", min_size=1))
@settings(max_examples=25, deadline=None)
def test_the_configuration_is_the_one_that_peft_writes(
    tmp_path_factory: pytest.TempPathFactory, adapter: LoraAdapter, base_model: str
) -> None:
    """Where another PEFT writes another, ``llm/peft_config.json`` takes over what it writes."""
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    save_adapter(folder, adapter, base_model=base_model)
    LoraConfig(
        r=adapter.rank,
        lora_alpha=int(adapter.alpha) if adapter.alpha.is_integer() else adapter.alpha,
        target_modules=["layer0", "layer1"],
        base_model_name_or_path=base_model,
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(folder.parent)
    ours, theirs = (json.loads((one / CONFIG_FILE).read_text()) for one in (folder, folder.parent))
    # PEFT keeps them as a set, in the order of which processes differ.
    theirs["target_modules"].sort()
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_whoever_saves_an_adapter_loads_neither_torch_nor_peft(tmp_path: Path) -> None:
    saves = (
        "import sys, numpy as np; from pathlib import Path; from llm.adapters import *; "
        "pair = {'base_model.model.q.lora_A.weight': np.ones((2, 6), np.float32), "
        "'base_model.model.q.lora_B.weight': np.ones((4, 2), np.float32)}; "
        f"folder = Path({str(tmp_path / 'adapter')!r}); "
        "save_adapter(folder, LoraAdapter(pair, 4.0), base_model='m'); "
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", saves], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert read_adapter(tmp_path / "adapter").rank == 2


def test_the_same_adapter_is_saved_as_the_same_bytes(base: BaseModel, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_adapter(tmp_path / name, start_adapter(base), base_model="m", model_card="card")
    for file in (CONFIG_FILE, WEIGHTS_FILE, MODEL_CARD_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_new_adapter_replaces_the_old_one_and_leaves_nothing_beside(
    base: BaseModel, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    save_adapter(folder, start_adapter(base), base_model="m", model_card="old")
    save_adapter(folder, start_adapter(base, rank=2), base_model="m")
    assert read_adapter(folder).rank == 2
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert not (folder / MODEL_CARD_FILE).exists()


def test_a_folder_that_is_no_adapter_is_not_overwritten(base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(AdapterError, match="is no adapter"):
        save_adapter(tmp_path, start_adapter(base), base_model="m")
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_failed_write_keeps_the_old_adapter(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapter"
    save_adapter(folder, start_adapter(base), base_model="m")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llm.adapters.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_adapter(folder, start_adapter(base, rank=2), base_model="m")
    assert read_adapter(folder).rank == 4
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def edited(field: str, value: object):
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG_FILE).read_text())
        config[field] = value
        (folder / CONFIG_FILE).write_text(json.dumps(config))

    return edit


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])


CORRUPTIONS = {
    "weights cut": (cut, "damaged"),
    "weights gone": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "is missing"),
    "config gone": (lambda folder: (folder / CONFIG_FILE).unlink(), "is missing"),
    "config no JSON": (lambda folder: (folder / CONFIG_FILE).write_text("{"), "damaged"),
    "config no object": (lambda folder: (folder / CONFIG_FILE).write_text("[]"), "no object"),
    "config not text": (lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe"), "damaged"),
    "another rank": (edited("r", 7), "says rank 7, the weights 4"),
    "another method": (edited("peft_type", "LOHA"), "expected 'LORA'"),
    "another scale": (edited("use_rslora", True), "use_rslora is set"),
    "a bias": (edited("bias", "all"), "bias 'all'"),
    "alpha no number": (edited("lora_alpha", None), "lacks a usable"),
    "alpha zero": (edited("lora_alpha", 0), "alpha 0.0: expected a positive"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_damaged_folder_is_refused_by_what_is_wrong(
    base: BaseModel, tmp_path: Path, name: str
) -> None:
    save_adapter(tmp_path / "adapter", start_adapter(base), base_model="m")
    corrupt, message = CORRUPTIONS[name]
    corrupt(tmp_path / "adapter")
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path / "adapter")


def test_arrays_that_are_no_adapter_are_refused(base: BaseModel) -> None:
    arrays = start_adapter(base).arrays
    first = next(iter(sorted(arrays)))
    for broken, message in (
        ({**arrays, first: arrays[first].astype(np.float64)}, "float64"),
        ({**arrays, first: arrays[first] * np.float32("nan")}, "not finite"),
        ({**arrays, first: arrays[first][:2]}, "do not fit"),
        ({n: x for n, x in arrays.items() if n != first}, "lacks its factor"),
        ({**arrays, "weight": arrays[first]}, "not a LoRA factor"),
        ({}, "expected one rank"),
    ):
        with pytest.raises(AdapterError, match=message):
            LoraAdapter(broken, 8.0)
    for alpha in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(AdapterError, match="alpha"):
            LoraAdapter(arrays, alpha)


def test_an_adapter_of_other_sizes_is_refused_by_layer(base: BaseModel) -> None:
    adapter = start_adapter(base)
    shapes = base.linear_shapes()
    adapter.check_fits(shapes)
    module = min(shapes)
    with pytest.raises(AdapterError, match=module):
        adapter.check_fits(
            {**shapes, module: shapes["base_model.model.model.layers.0.mlp.up_proj"]}
        )
