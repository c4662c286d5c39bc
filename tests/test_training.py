"""What training promises: the same bits for the same inputs, and nothing moved but what should."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from llm.adapters import AdapterError, LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.factors import A_SUFFIX, B_SUFFIX
from llm.model_source import BaseModelSettings
from llm.records import Message, Record
from llm.schedules import Schedule, share_of_peak
from llm.tokenization import TokenizationError
from llm.training import TrainedPart, TrainingError, TrainingResult, train, training_seed
from llm.training_settings import TrainingSettings
from tests.real_model import real_base
from tests.tiny_model import build_tiny_model, labelled_records, start_adapter

RECORDS = labelled_records(20)
SETTINGS = TrainingSettings(batch_size=8, learning_rate=0.01, warmup_steps=1)
FFA = TrainedPart(train_a=False, train_b=True, rank=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    return load_base_model(BaseModelSettings(model=str(folder)), folder)


@pytest.fixture(scope="module")
def real_training() -> TrainingResult:
    return train_briefly(real_base())


def run(
    base: BaseModel,
    records: list[Record] = RECORDS,
    part: TrainedPart = FFA,
    settings: TrainingSettings = SETTINGS,
    seed: int = 1,
    **others: object,
) -> TrainingResult:
    return train(base, records, start_adapter(base), part, settings, seed=seed, **others)


def same(first: TrainingResult, second: TrainingResult) -> bool:
    return first.losses == second.losses and all(
        np.array_equal(first.arrays[name], second.arrays[name])
        for name in first.arrays.keys() | second.arrays.keys()
    )


def test_equal_inputs_give_equal_bits_and_another_seed_gives_others(base: BaseModel) -> None:
    assert same(run(base), run(base))
    assert not same(run(base), run(base, seed=2))


def test_the_order_of_the_records_changes_no_bit(base: BaseModel) -> None:
    assert same(run(base), run(base, RECORDS[::-1]))


def test_neither_global_random_state_is_read_or_changed(base: BaseModel) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    first = run(base)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tobytes() == states[1]
    torch.manual_seed(99)
    assert same(first, run(base))


_CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[1]))
from safetensors.numpy import save_file
from llm.base_model import load_base_model
from llm.model_source import BaseModelSettings
from tests.test_training import train_briefly
model = Path(sys.argv[2])
base = load_base_model(BaseModelSettings(model=str(model)), model)
save_file(train_briefly(base).arrays, sys.argv[3])
"""


def train_briefly(base: BaseModel) -> TrainingResult:
    """Three steps of a 4-bit model in this process, on one thread whatever it is set to."""
    settings = TrainingSettings(batch_size=4, warmup_steps=1, threads=1)
    part = TrainedPart(train_a=True, train_b=True, rank=16)
    return train(base, RECORDS[:12], start_adapter(base, rank=16), part, settings, seed=1)


def assert_same_bits_elsewhere(here: TrainingResult, base: BaseModel, folder: Path) -> None:
    """Train in a process of its own as well, which is set to another number of threads."""
    threads = 2 if torch.get_num_threads() == 1 else 1
    file = folder / "elsewhere.safetensors"
    subprocess.run(
        [sys.executable, "-c", _CHILD, str(threads), str(base.path), str(file)],
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    there = load_file(file)
    assert here.arrays.keys() == there.keys()
    assert all(here.arrays[name].tobytes() == there[name].tobytes() for name in there)


def test_two_processes_set_to_one_and_two_threads_give_the_bits_of_the_number_named(
    base: BaseModel, tmp_path: Path
) -> None:
    assert_same_bits_elsewhere(train_briefly(base), base, tmp_path)


@pytest.mark.real
def test_the_real_model_trains_to_the_same_bits_in_two_processes(
    real_training: TrainingResult, tmp_path: Path
) -> None:
    assert_same_bits_elsewhere(real_training, real_base(), tmp_path)


def test_the_number_of_threads_is_as_named_and_afterwards_as_it_was(base: BaseModel) -> None:
    before = torch.get_num_threads()
    result = run(base, settings=SETTINGS.model_copy(update={"threads": before + 1}))
    assert result.threads == before + 1
    assert torch.get_num_threads() == before
    assert run(base).threads == before


@pytest.mark.real
def test_the_real_model_learns_in_a_few_steps(real_training: TrainingResult) -> None:
    assert real_training.last_loss < 0.5 * real_training.first_loss


@pytest.mark.parametrize("trained", ["a", "b", "both"])
@pytest.mark.parametrize("rank", [1, 4])
def test_the_update_holds_the_trained_leading_slices_and_nothing_else(
    base: BaseModel, trained: str, rank: int
) -> None:
    part = TrainedPart(trained != "b", trained != "a", rank)
    expected = {}
    for module, shape in base.linear_shapes().items():
        if part.train_a:
            expected[module + A_SUFFIX] = (rank, shape.in_features)
        if part.train_b:
            expected[module + B_SUFFIX] = (shape.out_features, rank)
    result = run(base, part=part)
    assert {name: array.shape for name, array in result.arrays.items()} == expected
    assert all(array.dtype == np.float32 and array.any() for array in result.arrays.values())


def test_frozen_columns_stay_active(base: BaseModel) -> None:
    whole = start_adapter(base)
    cut = LoraAdapter(
        {n: (x[:2] if n.endswith(A_SUFFIX) else x[:, :2]).copy() for n, x in whole.arrays.items()},
        whole.alpha * 2 / 4,
    )
    part = TrainedPart(train_a=False, train_b=True, rank=2)
    nested = train(base, RECORDS, whole, part, SETTINGS, seed=1)
    alone = train(base, RECORDS, cut, part, SETTINGS, seed=1)
    assert nested.first_loss != alone.first_loss


def test_the_received_adapter_is_not_written_to(base: BaseModel) -> None:
    adapter = start_adapter(base)
    before = {name: array.copy() for name, array in adapter.arrays.items()}
    train(base, RECORDS, adapter, FFA, SETTINGS, seed=1)
    assert all(np.array_equal(adapter.arrays[name], before[name]) for name in before)


def test_a_pair_on_top_comes_back_whole_and_starts_from_the_received_adapters_loss(
    base: BaseModel,
) -> None:
    received, fresh = start_adapter(base), start_adapter(base, rank=2, seed=3)
    silent = LoraAdapter(
        {n: x if n.endswith(A_SUFFIX) else x * 0 for n, x in fresh.arrays.items()}, 4.0
    )
    part = TrainedPart(train_a=True, train_b=True, rank=2)
    result = train(base, RECORDS, received, part, SETTINGS, seed=1, on_top=silent)
    assert {n: x.shape for n, x in result.arrays.items()} == {
        n: x.shape for n, x in silent.arrays.items()
    }
    assert result.first_loss == pytest.approx(run(base).first_loss, rel=1e-2)
    assert result.last_loss < result.first_loss


@pytest.mark.parametrize("micro", [{"micro_batch_size": 3}, {"micro_batch_tokens": 40}])
def test_smaller_micro_batches_change_rounding_only(folder: Path, micro: dict[str, int]) -> None:
    exact = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    base = load_base_model(exact, folder)
    one = run(base, settings=SETTINGS.model_copy(update={"learning_rate": 1e-4}))
    many = run(base, settings=SETTINGS.model_copy(update={"learning_rate": 1e-4} | micro))
    assert one.losses == pytest.approx(many.losses, rel=1e-5)
    assert one.gradient_norms == pytest.approx(many.gradient_norms, rel=1e-4)


def test_progress_tells_every_step_and_the_result_counts_them(base: BaseModel) -> None:
    told: list[tuple[int, int, float]] = []
    settings = SETTINGS.model_copy(update={"epochs": 2})
    result = run(base, settings=settings, progress=lambda *step: told.append(step))
    assert [step for step, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6} == {result.steps}
    assert [loss for _, _, loss in told] == list(result.losses)
    assert len(result.gradient_norms) == 6
    assert result.records == 20
    assert result.tokens <= result.padded_tokens < 1.2 * result.tokens


def test_training_lowers_the_loss(base: BaseModel) -> None:
    result = run(base, settings=SETTINGS.model_copy(update={"epochs": 5}))
    assert np.mean(result.losses[-3:]) < 0.5 * np.mean(result.losses[:3])


@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(1, 200))
def test_a_schedule_begins_at_the_peak_never_rises_and_moves_to_the_last_step(
    schedule: Schedule, steps: int
) -> None:
    shares = [share_of_peak(schedule, step, steps) for step in range(1, steps + 1)]
    assert shares[0] == 1.0
    assert all(0 < later <= earlier for earlier, later in pairwise(shares))
    assert shares[-1] == 1.0 if schedule == "constant" or steps == 1 else shares[-1] < 1.0


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_moves_every_factor(base: BaseModel, schedule: str) -> None:
    result = run(base, settings=TrainingSettings(batch_size=8, schedule=schedule, warmup_steps=1))
    assert all(np.any(array) for array in result.arrays.values())


def test_clipping_shortens_the_step_by_the_limit_over_the_norm(base: BaseModel) -> None:
    loose = run(base, settings=SETTINGS.model_copy(update={"max_gradient_norm": 1e9}))
    tight = run(base, settings=SETTINGS.model_copy(update={"max_gradient_norm": 1e-3}))
    assert tight.gradient_norms[0] == loose.gradient_norms[0] > 1e-3
    assert not same(loose, tight)


def test_an_a_beside_zeros_is_refused_because_it_cannot_move(base: BaseModel) -> None:
    start = start_adapter(base)
    silent = LoraAdapter(
        {n: x if n.endswith(A_SUFFIX) else x * 0 for n, x in start.arrays.items()}, start.alpha
    )
    part = TrainedPart(train_a=True, train_b=False, rank=4)
    with pytest.raises(TrainingError, match=r"did not move.*lora_A"):
        train(base, RECORDS, silent, part, SETTINGS, seed=1)


def test_a_loss_that_is_not_finite_stops_the_training(base: BaseModel) -> None:
    start = start_adapter(base)
    huge = LoraAdapter({n: x * np.float32(1e30) for n, x in start.arrays.items()}, start.alpha)
    with pytest.raises(TrainingError, match="step 1 of 3: loss nan"):
        train(base, RECORDS, huge, FFA, SETTINGS, seed=1)


def test_no_records_and_repeated_records_are_refused(base: BaseModel) -> None:
    with pytest.raises(TrainingError, match="no records"):
        run(base, [])
    with pytest.raises(TrainingError, match="ids repeat"):
        run(base, [RECORDS[0], RECORDS[0]])


def test_a_rank_above_the_adapters_is_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="rank 5 of an adapter of rank 4"):
        run(base, part=TrainedPart(train_a=False, train_b=True, rank=5))


def test_an_adapter_of_another_model_is_refused(base: BaseModel) -> None:
    strange = {n.replace("q_proj", "p_proj"): x for n, x in start_adapter(base).arrays.items()}
    with pytest.raises(AdapterError, match="no such linear layer"):
        train(base, RECORDS, LoraAdapter(strange, 8.0), FFA, SETTINGS, seed=1)


def test_long_records_are_cut_and_counted_or_refused_by_name(base: BaseModel) -> None:
    settings = SETTINGS.model_copy(update={"max_tokens": 12})
    result = run(base, settings=settings)
    assert 0 < result.truncated <= 20
    assert result.tokens <= 20 * 12
    with pytest.raises(TokenizationError, match=r"record record-\d+: \d+ tokens, expected at most"):
        run(base, settings=settings.model_copy(update={"long_records": "refuse"}))


def test_chats_and_free_text_train_together(base: BaseModel) -> None:
    records = [
        Record("chat", (Message("user", "What is the capital of France?"),), "Paris"),
        Record("text", "Once upon a time", " there was a king who met the committee."),
    ]
    assert run(base, records).steps == 1


def test_the_seed_tells_runs_rounds_and_organizations_apart() -> None:
    seeds = {
        training_seed(run, round_, organization)
        for run in ("a", "b")
        for round_ in (1, 2, 12)
        for organization in ("x", "2x")
    }
    assert len(seeds) == 12
    assert training_seed("a", 1, "x") == training_seed("a", 1, "x")


@pytest.mark.parametrize(
    "field", [{"learning_rate": 0}, {"batch_size": 0}, {"epochs": 0}, {"unknown": 1}]
)
def test_impossible_settings_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        TrainingSettings(**field)
