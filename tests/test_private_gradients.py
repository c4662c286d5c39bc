"""Private training: what one record can change, and what is added to hide it."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import kstest, norm

from client_app.request import Request
from client_app.round_noise import NoiseKeyError, round_noise
from llm.adapted_model import AdaptedModel, adapted
from llm.base_model import BaseModel, load_base_model
from llm.model_source import BaseModelSettings
from llm.privacy_settings import PrivacySettings
from llm.private_gradients import ClippedSum, Noise, private_batches
from llm.records import Record
from llm.tokenization import EncodedRecord, collate, completion_row, encode, padding_token
from llm.trained_factors import TrainedFactors, TrainedPart
from llm.training import TrainingError, TrainingResult, train
from llm.training_settings import TrainingSettings
from strategies.privacy import noise_multiplier, privacy_of, spent_epsilon
from strategies.settings import RunSettings, SettingsError
from tests.tiny_model import build_tiny_model, start_adapter

NOISE = Noise(bytes(range(32)))
#: So little that it hides nothing: what is left is what was clipped.
SILENT = 1e-12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return load_base_model(
        BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32"),
        folder.parent,
    )


def records(count: int) -> list[Record]:
    words = ["warm", "funny", "wise", "dull", "loud", "long", "good", "broke"]
    return [
        Record(
            id=f"r{n}",
            prompt=f"Review: a {words[n % 8]} film, {words[n // 8 % 8]} and {n} more\nSentiment:",
            completion=" positive" if n % 2 else " negative",
        )
        for n in range(count)
    ]


def encoded(count: int) -> list[EncodedRecord]:
    return [EncodedRecord(f"r{n}", (1, 2), (3,), (), -1, truncated=False) for n in range(count)]


def trained(
    base: BaseModel,
    rows: Sequence[Record],
    privacy: PrivacySettings | None,
    noise: Noise | None = NOISE,
    **changes: object,
) -> TrainingResult:
    settings = TrainingSettings.model_validate(
        {"batch_size": 4, "warmup_steps": 0, "threads": 1, "privacy": privacy, **changes}
    )
    part = TrainedPart(train_a=False, train_b=True, rank=4)
    return train(base, rows, start_adapter(base), part, settings, seed=3, noise=noise)


# Batches


@given(count=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 2**63 - 1))
def test_each_record_is_in_one_batch_whatever_the_order(count: int, size: int, seed: int) -> None:
    rows = encoded(count)
    batches = private_batches(rows, batch_size=size, seed=seed, epoch=0)
    assert sorted(r.id for batch in batches for r in batch) == sorted(r.id for r in rows)
    assert len(batches) == math.ceil(count / size)
    assert private_batches(rows[::-1], batch_size=size, seed=seed, epoch=0) == batches


@given(count=st.integers(2, 60), seed=st.integers(0, 1000), data=st.data())
def test_another_record_in_its_place_moves_no_other(
    count: int, seed: int, data: st.DataObject
) -> None:
    rows, taken = encoded(count), data.draw(st.integers(0, count - 1))
    other = [replace(r, id="another") if n == taken else r for n, r in enumerate(rows)]
    one, two = (private_batches(r, batch_size=4, seed=seed, epoch=1) for r in (rows, other))

    def places(batches: list[list[EncodedRecord]]) -> dict[str, int]:
        return {r.id: place for place, batch in enumerate(batches) for r in batch}

    before, after = places(one), places(two)
    assert {i: p for i, p in before.items() if i != rows[taken].id} == {
        i: p for i, p in after.items() if i != "another"
    }


# Noise


def test_noise_is_normal_and_the_same_for_the_same_key_and_step_alone() -> None:
    values = NOISE.normal(0, 300_000)
    assert kstest(values, "norm").pvalue > 0.01
    assert values.std() == pytest.approx(1.0, abs=0.01)
    assert np.array_equal(values, NOISE.normal(0, 300_000))
    assert np.array_equal(values[:1000], NOISE.normal(0, 1000))
    for other in (NOISE.normal(1, 300_000), Noise(bytes(32)).normal(0, 300_000)):
        assert abs(float(np.corrcoef(values, other)[0, 1])) < 0.01


# Clipping


@given(
    norms=st.lists(st.floats(0.01, 50), min_size=1, max_size=6),
    clip=st.floats(0.1, 5),
)
def test_no_record_adds_more_than_the_bound(norms: list[float], clip: float) -> None:
    factors = _Factors(len(norms))
    summed = ClippedSum(factors, PrivacySettings(clip=clip, noise_multiplier=SILENT))
    summed.take([torch.diag(torch.tensor(norms))])
    summed.put(NOISE, 0, batch_size=1)
    expected = [min(size, clip) for size in norms]
    assert factors.flat.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_sum_is_divided_by_the_batch_size_of_the_terms_however_many_there_were() -> None:
    factors = _Factors(2)
    summed = ClippedSum(factors, PrivacySettings(clip=1.0, noise_multiplier=SILENT))
    summed.take([torch.tensor([[0.5, 0.0]])])
    summed.put(NOISE, 0, batch_size=8)
    assert factors.flat.grad.tolist() == pytest.approx([0.0625, 0.0])
    empty = ClippedSum(factors, PrivacySettings(clip=2.0, noise_multiplier=3.0))
    empty.put(NOISE, 5, batch_size=8)
    # Nothing but noise, of multiplier times twice the bound.
    assert factors.flat.grad.numpy() == pytest.approx(NOISE.normal(5, 2) * 12 / 8, rel=1e-6)


class _Factors(TrainedFactors):
    """One flat vector of gradients, without a model."""

    def __init__(self, size: int) -> None:
        self.flat = torch.nn.Parameter(torch.zeros(size))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.flat]


# Each record's own gradient


def by_row(
    base: BaseModel, model: AdaptedModel, factors: TrainedFactors, batch: Sequence[EncodedRecord]
) -> list[torch.Tensor]:
    rows = [completion_row(record.prompt, record.completion) for record in batch]
    copies = factors.assemble_by_row(len(rows))
    model.put(copies.factors)
    together = collate(rows, padding=padding_token(base.tokenizer), device=base.device)
    model.loss(together).backward()  # type: ignore[no-untyped-call]
    return copies.gradients()


@pytest.mark.parametrize(
    "part",
    [TrainedPart(False, True, 4), TrainedPart(True, True, 4), TrainedPart(True, True, 2)],
    ids=["B", "A and B", "a part of the rank"],
)
def test_records_side_by_side_have_the_gradients_that_each_has_by_itself(
    base: BaseModel, part: TrainedPart
) -> None:
    start = start_adapter(base)
    factors = TrainedFactors(start, part, base.compute_dtype, base.device)
    # Of an adapter with B at nothing, A would get none.
    with torch.no_grad():
        for flat in factors.parameters:
            flat.add_(torch.linspace(-0.1, 0.1, flat.numel()))
    # Rows of other lengths: the shorter ones are padded.
    whole = encode(
        [Record(f"r{n}", "Review: " + "dull " * n, " positive") for n in range(5)],
        base.tokenizer,
        max_tokens=64,
    )
    with adapted(base, start) as model:
        found = by_row(base, model, factors, whole)
        assert [len(one) for one in found] == [5] * len(factors.parameters)
        for place, record in enumerate(whole):
            for flat in factors.parameters:
                flat.grad = None
            model.put(factors.assemble())
            row = completion_row(record.prompt, record.completion)
            alone = collate([row], padding=padding_token(base.tokenizer), device=base.device)
            model.loss(alone).backward()  # type: ignore[no-untyped-call]
            for flat, gradients in zip(factors.parameters, found, strict=True):
                assert flat.grad is not None
                # In float32, whose products are cut otherwise where more rows are in one.
                missed = float((gradients[place] - flat.grad).norm())
                assert float(flat.grad.norm()) > 0
                assert missed <= 1e-5 * float(flat.grad.norm())


# Training


def test_with_wide_bounds_and_no_noise_to_speak_of_private_training_is_a_mean_over_records(
    base: BaseModel,
) -> None:
    """One batch of rows with one target each: then the two means are the same."""
    rows = records(4)
    wide = PrivacySettings(clip=1e6, noise_multiplier=1e-14)
    plain = trained(base, rows, None, batch_size=4)
    private = trained(base, rows, wide, batch_size=4)
    assert private.losses[0] == pytest.approx(plain.losses[0], rel=1e-5)
    assert private.gradient_norms[0] == pytest.approx(plain.gradient_norms[0], rel=1e-4)
    assert private.tokens == plain.tokens


def test_a_pair_on_top_of_what_was_received_is_trained_privately_as_well(base: BaseModel) -> None:
    """With wide bounds and no noise to speak of as without privacy: a rule that stacks needs it."""
    rows, pair = records(4), start_adapter(base, rank=2, seed=3)
    part = TrainedPart(train_a=True, train_b=True, rank=2)
    plain, private = (
        train(
            base,
            rows,
            start_adapter(base),
            part,
            TrainingSettings(batch_size=4, warmup_steps=0, threads=1, privacy=privacy),
            seed=3,
            on_top=pair,
            noise=NOISE,
        )
        for privacy in (None, PrivacySettings(clip=1e6, noise_multiplier=1e-14))
    )
    assert private.losses[0] == pytest.approx(plain.losses[0], rel=1e-5)
    assert private.gradient_norms[0] == pytest.approx(plain.gradient_norms[0], rel=1e-4)


def test_private_training_gives_the_same_bits_by_the_same_noise_and_others_by_another(
    base: BaseModel,
) -> None:
    privacy = PrivacySettings(clip=0.5, noise_multiplier=1.0)
    rows = records(8)
    once = trained(base, rows, privacy)
    again = trained(base, rows[::-1], privacy)
    other = trained(base, rows, privacy, Noise(bytes(32)))
    assert all(np.array_equal(once.arrays[n], again.arrays[n]) for n in once.arrays)
    assert not any(np.array_equal(once.arrays[n], other.arrays[n]) for n in once.arrays)


def test_a_record_changes_a_steps_gradient_by_no_more_than_the_sensitivity(
    base: BaseModel,
) -> None:
    """Over one epoch of plain gradients, whatever is in the record's place."""
    privacy = PrivacySettings(clip=0.25, noise_multiplier=SILENT)
    part = TrainedPart(train_a=False, train_b=True, rank=4)

    def sums(rows: Sequence[Record]) -> list[torch.Tensor]:
        factors = TrainedFactors(start_adapter(base), part, base.compute_dtype, base.device)
        found = []
        with adapted(base, start_adapter(base)) as model:
            whole = encode(rows, base.tokenizer, max_tokens=64)
            for step, batch in enumerate(private_batches(whole, batch_size=2, seed=1, epoch=0)):
                summed = ClippedSum(factors, privacy)
                if batch:
                    summed.take(by_row(base, model, factors, batch))
                summed.put(NOISE, step, batch_size=1)
                found += [flat.grad for flat in factors.parameters if flat.grad is not None]
        return found

    rows = records(8)
    for taken in range(8):
        another = Record(f"other{taken}", "Review: " + "dull " * taken, " positive")
        swapped = [another if n == taken else r for n, r in enumerate(rows)]
        changes = [a - b for a, b in zip(sums(rows), sums(swapped), strict=True)]
        together = math.sqrt(sum(float(c.double().square().sum()) for c in changes))
        assert 0 < together <= 2 * privacy.clip * (1 + 1e-5)


def test_how_many_records_are_computed_side_by_side_changes_no_more_than_rounding(
    base: BaseModel,
) -> None:
    privacy = PrivacySettings(clip=0.5, noise_multiplier=1.0)
    few, many = (
        trained(base, records(8), privacy, batch_size=8, micro_batch_size=size) for size in (1, 8)
    )
    assert few.gradient_norms == pytest.approx(many.gradient_norms, rel=1e-5)
    assert few.losses == pytest.approx(many.losses, rel=1e-5)


def test_privacy_without_noise_trains_nothing(base: BaseModel) -> None:
    with pytest.raises(TrainingError, match="privacy without noise"):
        trained(base, records(2), PrivacySettings(clip=1.0, noise_multiplier=1.0), None)


# Accounting


@pytest.mark.parametrize("passes", [1, 6, 24])
@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0, 8.0])
@pytest.mark.filterwarnings("error")
def test_the_noise_keeps_the_promise_and_wastes_little_of_it(epsilon: float, passes: int) -> None:
    """The least noise is by Balle and Wang, arXiv 1805.06530, theorem 8."""
    delta = 1e-5

    def exact_delta(mu: float) -> float:
        return float(
            norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
        )

    least = math.sqrt(passes) / brentq(lambda mu: exact_delta(mu) - delta, 1e-3, 20)
    assert least <= noise_multiplier(epsilon, delta, passes) <= 1.2 * least
    assert spent_epsilon([(noise_multiplier(epsilon, delta, passes), passes)], delta) <= epsilon


def test_uses_add_up_whatever_noise_they_had() -> None:
    apart = [(2.0, 3), (4.0, 2), (9.0, 0)]
    whole = spent_epsilon(apart, 1e-5)
    assert spent_epsilon(apart[:1], 1e-5) < whole
    assert spent_epsilon([(2.0, 1), (2.0, 2), (4.0, 2)], 1e-5) == pytest.approx(whole)
    assert spent_epsilon([(2.0, 0)], 1e-5) == 0.0


def test_a_run_without_epsilon_has_no_privacy_and_one_with_it_counts_every_pass() -> None:
    assert privacy_of(RunSettings()) is None
    few = privacy_of(RunSettings(privacy_epsilon=8.0, rounds=3, privacy_clip=0.5))
    many = privacy_of(RunSettings(privacy_epsilon=8.0, rounds=3, epochs=2, privacy_clip=0.5))
    assert few is not None
    assert many is not None
    assert (few.clip, many.clip) == (0.5, 0.5)
    assert many.noise_multiplier > few.noise_multiplier
    assert few.noise_multiplier == noise_multiplier(8.0, 1e-5, 3)


def test_who_does_not_train_knows_how_private_a_run_is_without_loading_torch() -> None:
    code = "import sys, strategies.run_parts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_private_run_refuses_to_unlearn_by_training() -> None:
    with pytest.raises(SettingsError, match="privacy-epsilon"):
        RunSettings.from_run_config(
            {
                "privacy-epsilon": 8.0,
                "unlearners": "shop",
                "requests": f"0x{'1' * 64}",
                "lineage": f"0x{'2' * 64}:2",
            }
        )


def test_a_round_s_noise_is_its_own_and_its_records(tmp_path: Path) -> None:
    request = Request(b"\x01" * 32, "treaty", 3, 4, {}, None, ())
    start = {"x.lora_B.weight": np.zeros((2, 2), np.float32)}
    moved = {"x.lora_B.weight": np.ones((2, 2), np.float32)}
    rows = records(3)
    first = round_noise(tmp_path, "shop", request, start, 4, rows)
    assert round_noise(tmp_path, "shop", request, start, 4, rows[::-1]) == first
    others = [
        round_noise(tmp_path, "cinema", request, start, 4, rows),
        round_noise(tmp_path, "shop", replace(request, task=b"\x02" * 32), start, 4, rows),
        round_noise(tmp_path, "shop", replace(request, round=4), start, 4, rows),
        round_noise(tmp_path, "shop", request, moved, 4, rows),
        round_noise(tmp_path, "shop", request, start, 2, rows),
        round_noise(tmp_path, "shop", request, start, 4, records(4)),
        round_noise(
            tmp_path, "shop", request, start, 4, [replace(rows[0], completion=" x"), *rows[1:]]
        ),
    ]
    assert len({first.key, *(other.key for other in others)}) == 8
    secret = tmp_path / "organizations" / "shop" / "keys" / "noise.key"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.write_bytes(b"short")
    with pytest.raises(NoiseKeyError, match="5 bytes, expected 32"):
        round_noise(tmp_path, "shop", request, start, 4, rows)
