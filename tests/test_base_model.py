"""Loading the base: once in a process, in three precisions, and with a clear word when it fails."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from llm.base_model import load_base_model
from llm.factors import LinearShape
from llm.known_shapes import known_linear_shapes
from llm.linear_shapes import linear_shapes
from llm.model_source import BaseModelError, BaseModelSettings, base_model_path, model_fingerprint
from llm.quantization import dequantized_weight, fast_compute_dtype
from tests.tiny_model import build_tiny_model

PREFIX = "base_model.model.model.layers."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


TYPES = ("bfloat16", "float32")


def settings(folder: Path, **others: str) -> BaseModelSettings:
    return BaseModelSettings(model=str(folder), **others)


def test_equal_settings_give_the_same_object_and_other_settings_another(folder: Path) -> None:
    first = load_base_model(settings(folder), folder)
    assert load_base_model(settings(folder), folder) is first
    assert load_base_model(settings(folder, quantization="none"), folder) is not first


@pytest.mark.parametrize(
    ("quantization", "kind", "error"),
    [("nf4", Linear4bit, 0.15), ("int8", Linear8bitLt, 0.02), ("none", nn.Linear, 0.0)],
)
def test_linear_layers_are_quantized_and_stay_near_the_original_weights(
    folder: Path, quantization: str, kind: type, error: float
) -> None:
    plain = load_base_model(settings(folder, quantization="none", compute_dtype="float32"), folder)
    weights = {
        name: module.weight.clone()
        for name, module in plain.model.named_modules()
        if isinstance(module, nn.Linear)
    }
    base = load_base_model(
        settings(folder, quantization=quantization, compute_dtype="float32"), folder
    )
    for name, module in base.model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            assert type(module) is kind
            difference = dequantized_weight(module, torch.float32) - weights[name]
            assert difference.norm() <= error * weights[name].norm()
    assert type(base.model.get_output_embeddings()) is nn.Linear
    assert not any(p.requires_grad for p in base.model.parameters())
    assert base.has_plain_head


def test_the_compute_type_is_the_processors_fast_one_or_the_one_named(folder: Path) -> None:
    automatic = load_base_model(settings(folder), folder)
    assert automatic.compute_dtype == fast_compute_dtype(torch.device("cpu"))
    named = load_base_model(settings(folder, compute_dtype="float32"), folder)
    assert named.compute_dtype == torch.float32


def test_two_types_of_one_model_are_held_together_and_the_fast_one_by_either_name(
    folder: Path,
) -> None:
    both = [load_base_model(settings(folder, compute_dtype=t), folder) for t in TYPES]
    assert both[0] is not both[1]
    assert [load_base_model(settings(folder, compute_dtype=t), folder) for t in TYPES] == both
    fast = str(fast_compute_dtype(torch.device("cpu"))).removeprefix("torch.")
    assert load_base_model(settings(folder), folder) is both[TYPES.index(fast)]


def test_shapes_are_known_without_weights_and_equal_the_loaded_models(
    folder: Path, copy: Path
) -> None:
    shapes = linear_shapes(folder)
    assert shapes == load_base_model(settings(folder), folder).linear_shapes()
    assert len(shapes) == 14
    assert shapes[PREFIX + "1.self_attn.k_proj"] == LinearShape(32, 64)
    assert list(shapes) == sorted(shapes)
    (copy / "model.safetensors").unlink()
    assert linear_shapes(copy) == shapes


def test_kept_shapes_are_the_models_and_asking_again_loads_no_torch(
    folder: Path, copy: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shapes = known_linear_shapes(folder, "all-linear", cache)
    assert shapes == linear_shapes(folder)
    assert known_linear_shapes(folder, ("q_proj",), cache) == linear_shapes(folder, ("q_proj",))
    asks = (
        "import sys; from pathlib import Path; from llm.known_shapes import known_linear_shapes; "
        f"shapes = known_linear_shapes(Path({str(folder)!r}), 'all-linear', Path({str(cache)!r})); "
        "print(len(shapes), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(shapes)), "False"]
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    assert known_linear_shapes(copy, "all-linear", cache) == linear_shapes(copy) != shapes


def test_a_damaged_record_of_shapes_is_made_again(folder: Path, tmp_path: Path) -> None:
    shapes = known_linear_shapes(folder, "all-linear", tmp_path)
    [kept] = tmp_path.rglob("shapes.json")
    kept.write_text(kept.read_text().replace("64", "65"))
    assert known_linear_shapes(folder, "all-linear", tmp_path) == shapes


@pytest.mark.parametrize(
    "module",
    ["strategies.settings", "client_app.app", "client_app.cli.preparation", "server_app.app"],
)
def test_what_a_start_waits_for_loads_no_torch(module: str) -> None:
    asks = (
        f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_training_waits_for_loads_no_compiler() -> None:
    asks = (
        "import sys, torch; given = torch.compile; import llm.bitsandbytes_kernels; "
        "print(torch.compile is given, 'torch._inductor.compile_fx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_target_picks_layers_by_the_last_part_of_their_names(folder: Path) -> None:
    assert set(linear_shapes(folder, ("q_proj", "v_proj"))) == {
        f"{PREFIX}{layer}.self_attn.{part}_proj" for layer in (0, 1) for part in "qv"
    }
    with pytest.raises(BaseModelError, match="names none of its linear layers"):
        linear_shapes(folder, ("query",))


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=64)).save_pretrained(
        tmp_path
    )
    with pytest.raises(BaseModelError, match="names none of its linear layers"):
        linear_shapes(tmp_path)


def test_one_changed_byte_changes_the_fingerprint(folder: Path, copy: Path) -> None:
    assert model_fingerprint(copy) == model_fingerprint(folder)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
        assert model_fingerprint(copy) != model_fingerprint(folder), name
        (copy / name).write_bytes(before)
    (copy / "notes.log").write_text("of no concern")
    assert model_fingerprint(copy) == model_fingerprint(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"/nowhere: no such folder; give a model's folder"):
        load_base_model(BaseModelSettings(model=str(tmp_path / "nowhere")), tmp_path)


def test_a_name_that_is_no_hub_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="neither a folder here nor a valid hub name"):
        load_base_model(BaseModelSettings(model="a/b/c d"), tmp_path)


def test_an_unreachable_hub_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BaseModelError, match="hub cannot be reached; check the network"):
        base_model_path(BaseModelSettings(model="some-owner/some-model"), tmp_path)


def cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


DAMAGE = {
    "weights cut short": (cut_weights, "damaged .*fetch the model again"),
    "weights gone": (lambda f: (f / "model.safetensors").unlink(), "no .safetensors weights"),
    "config gone": (lambda f: (f / "config.json").unlink(), "no usable config.json"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "no usable config.json"),
    "unknown kind": (
        lambda f: (f / "config.json").write_text('{"model_type": "oracle"}'),
        "no usable config.json",
    ),
    "tokenizer gone": (
        lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")],
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_in_one_line(copy: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(copy)
    with pytest.raises(BaseModelError, match=message) as caught:
        load_base_model(settings(copy), copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said(folder: Path) -> None:
    with pytest.raises(BaseModelError, match="this machine offers none"):
        load_base_model(settings(folder, device="cuda"), folder)


@pytest.mark.parametrize("field", [{"quantization": "nf3"}, {"model": ""}, {"colour": "red"}])
def test_unknown_settings_are_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        BaseModelSettings(**field)
