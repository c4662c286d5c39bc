"""Attacks on models find what is there, and leave the base as it was."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm.adapters import AdapterError, LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.evaluation import evaluate
from llm.factors import A_SUFFIX, B_SUFFIX
from llm.generation import generate
from llm.model_source import BaseModelSettings
from llm.quantization import dequantized_weight
from llm.records import Record
from llm.training import TrainedPart, TrainingSettings, train
from tests.tiny_model import build_tiny_model, start_adapter
from unlearning.verification.canaries import (
    CHANCE_EXPOSURE,
    draw_canaries,
    draw_references,
    exposure,
    exposure_by_repeats,
    measure_exposures,
)
from unlearning.verification.evidence import Evidence, gather_evidence
from unlearning.verification.memorization import exact_match, loss
from unlearning.verification.quantization_attack import (
    merged_and_quantized,
    quantized_adapter,
    quantized_evidence,
    rounded,
)
from unlearning.verification.relearning import relearning_attack
from unlearning.verification.resurfacing import memory_by_round
from unlearning.verification.token_statistics import (
    VerificationError,
    gather_statistics,
    statistics_as_it_stands,
)

TEXTS = [
    "the treaty should be signed in the spring",
    "a warm, funny and wise film about a king",
    "the battery lasts and the price is good",
    "nobody answered my letters after a week",
    "the worst film of the year is dull",
    "a city on the river in France",
    "once upon a time there was a phone",
    "the committee agreed on Monday",
]
WRONG = ["loud and long", "short story", "Paris, a town", "the phone works well"] * 2


def answers(name: str, texts: list[str]) -> list[Record]:
    return [
        Record(f"{name}-{index}", f"Question {index}: what? Answer:", " " + text)
        for index, text in enumerate(texts)
    ]


FORGET, OTHERS = answers("forget", TEXTS), answers("other", WRONG)
HOLD_OUT = [
    Record(f"hold-{index}", f"Question {index + 8}: what? Answer:", " " + text[::-1])
    for index, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(exact, folder)


@pytest.fixture(scope="module", params=["none", "nf4", "int8"])
def any_base(request: pytest.FixtureRequest, folder: Path) -> BaseModel:
    settings = BaseModelSettings(
        model=str(folder), quantization=request.param, compute_dtype="float32"
    )
    return load_base_model(settings, folder)


def trained(
    base: BaseModel, adapter: LoraAdapter, records: list[Record], epochs: int, *, a: bool = False
) -> LoraAdapter:
    part = TrainedPart(train_a=a, train_b=True, rank=adapter.rank)
    settings = TrainingSettings(
        learning_rate=1e-2, epochs=epochs, warmup_steps=0, batch_size=32, threads=1
    )
    update = train(base, records, adapter, part, settings, seed=0).arrays
    arrays = {name: array + update.get(name, 0) for name, array in adapter.arrays.items()}
    return LoraAdapter(arrays, adapter.alpha)


@pytest.fixture(scope="module")
def knowing(base: BaseModel) -> LoraAdapter:
    """Trained on the forget set."""
    return trained(base, start_adapter(base), FORGET, 15)


def fingerprint(base: BaseModel) -> str:
    """Hash of every parameter and buffer, of what quantized weights stand for, and of methods."""
    digest = hashlib.sha256()
    tensors: list[Tensor] = [*base.model.parameters(), *base.model.buffers()]
    for module in base.model.modules():
        assert "forward" not in vars(module)
        if isinstance(module, torch.nn.Linear) and module is not base.model.lm_head:
            tensors.append(dequantized_weight(module, torch.float32))
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# Canaries.


def test_canaries_are_drawn_from_a_seed_and_repeated_as_records_of_their_own() -> None:
    drawn = draw_canaries(6, seed=1)
    assert drawn == draw_canaries(6, seed=1)
    assert [canary.repeats for canary in drawn] == [1, 4, 16, 1, 4, 16]
    records = [record for canary in drawn for record in canary.records]
    assert len({record.id for record in records}) == len(records) == 42
    assert [record.id for record in drawn[1].records] == [f"canary-1-{copy}" for copy in range(4)]
    assert len({(record.prompt, record.completion) for record in records}) == 6
    assert drawn[1].probe.completion == drawn[1].records[0].completion
    references = draw_references(50, seed=1)
    assert not any(reference.records for reference in references)
    secrets = {canary.secret for canary in (*drawn, *references, *draw_canaries(6, seed=2))}
    assert len(secrets) == 62


def test_exposure_is_how_far_up_the_ranks_a_string_stands() -> None:
    """Among 7 references there are 8 ranks: 3 bits at the top, 0 at the bottom."""
    references = np.arange(1.0, 8.0)
    assert exposure(0.5, references) == 3
    assert exposure(1.5, references) == 2
    assert exposure(3.5, references) == 1
    assert exposure(9, references) == 0
    # Of equals the string counts as the first: exposure is never told too low.
    assert exposure(1, references) == 3
    with pytest.raises(VerificationError, match="no reference"):
        exposure(1, np.empty(0))


def test_a_string_that_was_never_seen_is_exposed_by_chance() -> None:
    losses = np.random.default_rng(0).normal(size=1024)
    every = [exposure(loss, np.delete(losses, index)) for index, loss in enumerate(losses)]
    assert np.mean(every) == pytest.approx(CHANCE_EXPOSURE, abs=0.01)


def test_canaries_trained_on_repeatedly_are_more_exposed_than_unseen_ones(base: BaseModel) -> None:
    inserted, unseen = draw_canaries(3, seed=1), draw_canaries(12, seed=2)
    references = draw_references(63, seed=1)
    records = [record for canary in inserted for record in canary.records]
    adapter = trained(base, start_adapter(base), records, 6, a=True)
    exposures = measure_exposures(base, adapter, inserted, references)
    by_repeats = exposure_by_repeats(inserted, exposures)
    assert list(by_repeats) == [1, 4, 16]
    assert by_repeats[1].value < by_repeats[16].value == exposures.highest == 6
    chance = measure_exposures(base, adapter, unseen, references).by_canary
    assert np.mean(list(chance.values())) < 2.5
    before = measure_exposures(base, None, inserted, references).by_canary
    assert np.mean(list(before.values())) < 2.5


def test_exact_match_says_what_greedy_decoding_says(base: BaseModel) -> None:
    learned, unseen = draw_canaries(2, seed=3, repeats=(1,))
    adapter = trained(base, start_adapter(base), list(learned.records), 20, a=True)
    evidence = gather_evidence(base, adapter, forget=[learned.probe, unseen.probe])
    assert exact_match(evidence.forget).by_record == {learned.id: 1, unseen.id: 0}
    for canary in (learned, unseen):
        said = generate(base, canary.prompt, adapter, max_new_tokens=20)
        assert said.startswith(canary.secret) == (canary is learned)


# Relearning.


def test_a_model_that_hides_what_it_knows_relearns_faster_than_one_that_never_knew(
    base: BaseModel, knowing: LoraAdapter
) -> None:
    before = fingerprint(base)
    hiding = trained(base, knowing, OTHERS, 6)
    innocent = trained(base, start_adapter(base), OTHERS, 6)
    curves = relearning_attack(
        base,
        hiding,
        innocent,
        lessons=FORGET[:4],
        forget=FORGET[4:],
        steps=(4, 2, 1),
        settings=TrainingSettings(learning_rate=3e-3, threads=1),
    )
    assert curves.steps == (0, 1, 2, 4)
    assert curves.unlearned[0] == pytest.approx(evaluate(base, FORGET[4:], hiding).loss)
    assert curves.unlearned[0] > curves.unlearned[1] > curves.unlearned[2] > curves.unlearned[3]
    assert curves.advantage[0] == 0
    assert 0 < curves.advantage[1] < curves.advantage[2] < curves.advantage[3]
    assert fingerprint(base) == before


def test_a_longer_attack_begins_as_a_shorter_one_and_equals_have_no_advantage(
    base: BaseModel, knowing: LoraAdapter
) -> None:
    settings = TrainingSettings(learning_rate=3e-3, threads=1)

    def attack(*steps: int) -> tuple[float, ...]:
        curves = relearning_attack(
            base, knowing, knowing, OTHERS[:2], FORGET, steps=steps, settings=settings, train_a=True
        )
        assert set(curves.advantage) == {0}
        return curves.unlearned

    assert attack(1, 3)[1] == attack(1)[1]


def test_an_attack_needs_lessons_and_steps(base: BaseModel, knowing: LoraAdapter) -> None:
    with pytest.raises(VerificationError, match="no lessons"):
        relearning_attack(base, knowing, knowing, [], FORGET)
    with pytest.raises(VerificationError, match=r"steps \(0, 2\)"):
        relearning_attack(base, knowing, knowing, OTHERS, FORGET, steps=(0, 2))


# Quantization.


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 200))
def test_int8_moves_no_value_by_more_than_half_a_step(seed: int, rows: int, columns: int) -> None:
    source = np.random.default_rng(seed)
    weight = torch.from_numpy(source.normal(size=(rows, columns)).astype(np.float32))
    weight[0] = 0
    coarse = rounded(weight, "int8")
    steps = weight.abs().amax(1, keepdim=True) / 127
    assert ((coarse - weight).abs() <= steps * 0.501).all()
    assert torch.allclose(rounded(coarse, "int8"), coarse, atol=1e-6)


def test_nf4_leaves_sixteen_values_a_block() -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32))
    coarse = rounded(weight, "nf4")
    assert all(len(set(row.tolist())) <= 16 for row in coarse)
    largest = weight.abs().argmax(1, keepdim=True)
    assert torch.allclose(coarse.gather(1, largest), weight.gather(1, largest))
    assert torch.allclose(rounded(coarse, "nf4"), coarse, atol=1e-6)


def test_every_form_of_quantization_leaves_the_base_untouched(any_base: BaseModel) -> None:
    before, adapter = fingerprint(any_base), start_adapter(any_base)
    said = gather_statistics(any_base, FORGET, adapter)
    forms = quantized_evidence(any_base, adapter, forget=FORGET, hold_out=HOLD_OUT)
    assert set(forms) == {(s, f) for s in ("int8", "nf4") for f in ("merged", "adapter")}
    assert fingerprint(any_base) == before
    for name, statistics in gather_statistics(any_base, FORGET, adapter).items():
        assert (statistics.log_probabilities == said[name].log_probabilities).all()


def test_an_interrupted_attack_leaves_the_base_untouched(base: BaseModel) -> None:
    before = fingerprint(base)
    with (
        pytest.raises(KeyboardInterrupt),
        merged_and_quantized(base, start_adapter(base), "nf4"),
    ):
        raise KeyboardInterrupt
    assert fingerprint(base) == before
    other = LoraAdapter(
        {
            f"other.layer{A_SUFFIX}": np.ones((1, 2), np.float32),
            f"other.layer{B_SUFFIX}": np.ones((2, 1), np.float32),
        },
        1.0,
    )
    with pytest.raises(AdapterError), merged_and_quantized(base, other, "nf4"):
        pass
    assert fingerprint(base) == before


def test_merged_weights_that_are_not_rounded_are_the_adapted_model(
    any_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "unlearning.verification.quantization_attack.rounded", lambda weight, scheme: weight
    )
    adapter = start_adapter(any_base, alpha=32)
    some = {n: x for n, x in adapter.arrays.items() if "q_proj" in n or "down_proj" in n}
    for one in (adapter, LoraAdapter(some, 16.0), None):
        with merged_and_quantized(any_base, one, "int8"):
            merged = statistics_as_it_stands(any_base, FORGET)
        for name, statistics in gather_statistics(any_base, FORGET, one).items():
            assert merged[name].log_probabilities == pytest.approx(
                statistics.log_probabilities, abs=1e-3
            )


def scaled(adapter: LoraAdapter, factor: float) -> LoraAdapter:
    arrays = {
        n: x * np.float32(factor) if n.endswith(B_SUFFIX) else x for n, x in adapter.arrays.items()
    }
    return LoraAdapter(arrays, adapter.alpha)


def test_a_change_smaller_than_a_step_is_undone_by_rounding(
    base: BaseModel, knowing: LoraAdapter
) -> None:
    small = scaled(knowing, 1e-6)
    with merged_and_quantized(base, small, "nf4"):
        changed = statistics_as_it_stands(base, FORGET)
    with merged_and_quantized(base, None, "nf4"):
        unchanged = statistics_as_it_stands(base, FORGET)
    for name, statistics in unchanged.items():
        assert changed[name].loss == pytest.approx(statistics.loss, rel=1e-3)


def test_coarser_rounding_changes_more(base: BaseModel, knowing: LoraAdapter) -> None:
    whole = loss(gather_evidence(base, knowing, forget=FORGET).forget).value
    forms = quantized_evidence(base, knowing, forget=FORGET)
    changes = {form: abs(loss(one.forget).value - whole) for form, one in forms.items()}
    assert changes["int8", "merged"] < 0.05 < changes["nf4", "merged"]
    assert changes["int8", "adapter"] < changes["nf4", "adapter"]
    assert quantized_adapter(knowing, "int8").alpha == knowing.alpha
    [single] = quantized_evidence(
        base, knowing, forget=FORGET, schemes=("int8",), forms=("adapter",)
    ).values()
    assert isinstance(single, Evidence)
    assert not single.hold_out


# Resurfacing.


def test_a_memory_that_comes_back_is_seen_round_by_round(
    base: BaseModel, knowing: LoraAdapter
) -> None:
    read: list[int] = []

    def rounds() -> Iterator[tuple[int, LoraAdapter]]:
        for round_number, strength in ((7, 0.0), (8, 0.5), (9, 1.0)):
            read.append(round_number)
            yield round_number, scaled(knowing, strength)

    memories = memory_by_round(base, rounds(), FORGET, HOLD_OUT)
    assert [memory.round for memory in memories] == read == [7, 8, 9]
    losses = [memory.loss.value for memory in memories]
    assert losses[0] > losses[1] > losses[2]
    assert memories[2].membership.value == 1
    assert memories[0].membership.value < 1
    assert math.isclose(losses[2], evaluate(base, FORGET, knowing).loss, rel_tol=1e-4)
