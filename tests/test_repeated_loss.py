"""The loss of many adapters on the same records is what evaluating each by itself says."""

import pytest

from llm.adapters import AdapterError, LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.evaluation import evaluate
from llm.factors import B_SUFFIX
from llm.model_source import BaseModelSettings
from llm.records import Message, Record
from llm.repeated_loss import repeated_loss
from tests.tiny_model import build_tiny_model, labelled_records, start_adapter

RECORDS = [
    *labelled_records(40),
    Record("free", "The committee met", " on Monday and agreed."),
    Record("chat", (Message("user", "hello"),), "a king"),
]


@pytest.fixture(scope="module", params=["nf4", "none"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    exact = BaseModelSettings(
        model=str(folder), quantization=request.param, compute_dtype="float32"
    )
    return load_base_model(exact, folder)


def adapters(base: BaseModel) -> list[LoraAdapter]:
    """Of unlike ranks, on unlike layers, one that does nothing."""
    whole = start_adapter(base)
    layers = sorted({name.rpartition(".lora_")[0] for name in whole.arrays})
    part = {
        n: x for n, x in whole.arrays.items() if n.startswith(tuple(f"{m}." for m in layers[:5]))
    }
    silent = {n: x * 0 if n.endswith(B_SUFFIX) else x for n, x in whole.arrays.items()}
    return [
        whole,
        LoraAdapter(part, whole.alpha),
        LoraAdapter(silent, 8.0),
        start_adapter(base, alpha=64),
    ]


def test_every_adapter_has_the_loss_it_has_when_evaluated_alone_in_any_order(
    base: BaseModel,
) -> None:
    tried = adapters(base)
    expected = [evaluate(base, RECORDS, adapter).loss for adapter in tried]
    assert len({round(loss, 4) for loss in expected}) == len(expected)
    with repeated_loss(base, RECORDS) as loss:
        forwards = [loss(adapter) for adapter in tried]
        backwards = [loss(adapter) for adapter in reversed(tried)]
    assert forwards == pytest.approx(expected, rel=1e-5)
    # The same bits, whatever was on the model before.
    assert backwards == forwards[::-1]


def test_the_base_is_as_it_was_afterwards(base: BaseModel) -> None:
    before = evaluate(base, RECORDS).loss
    with repeated_loss(base, RECORDS) as loss:
        loss(start_adapter(base))
    assert evaluate(base, RECORDS).loss == before


def test_an_adapter_of_another_model_and_no_records_are_refused(base: BaseModel) -> None:
    stranger = {n.replace("layers.0", "layers.7"): x for n, x in start_adapter(base).arrays.items()}
    with repeated_loss(base, RECORDS) as loss, pytest.raises(AdapterError):
        loss(LoraAdapter(stranger, 8.0))
    with pytest.raises(ValueError, match="no records"), repeated_loss(base, []):
        pass
