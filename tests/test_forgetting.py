"""What unlearning by training promises: where it stops, what it moves, and the same bits."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llm.adapters import AdapterError, LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.evaluation import evaluate
from llm.factors import A_SUFFIX, B_SUFFIX, Arrays
from llm.model_source import BaseModelSettings
from llm.records import Record
from llm.tokenization import encode, training_tokens
from llm.training import TrainedPart, TrainingError, train
from llm.training_settings import TrainingSettings
from tests.tiny_model import build_tiny_model, start_adapter
from unlearning.forgetting import ForgettingResult, ForgettingSettings, forget
from unlearning.methods import METHODS, Npo
from unlearning.stop_rule import CLOSE, Readings, Unseen

FFA = TrainedPart(train_a=False, train_b=True, rank=4)
SETTINGS = ForgettingSettings(epochs=6, learning_rate=0.01, threads=1)
_WORDS = ("film", "phone", "town", "treaty", "battery", "king", "letters", "river")


def texts(first: int, count: int) -> list[Record]:
    """Records of several words each, drawn without a pattern: what is known of them is memory."""
    generator = np.random.default_rng(first)
    return [
        Record(
            f"text-{first + k}",
            f"Note {first + k}:",
            " " + " ".join(generator.choice(_WORDS, 3 + k % 4)),
        )
        for k in range(count)
    ]


TRAINED, HOLD_OUT = texts(0, 24), texts(100, 12)
FORGET, RETAIN = TRAINED[:8], TRAINED[8:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    settings = BaseModelSettings(model=str(folder), quantization="none", compute_dtype="float32")
    return load_base_model(settings, folder)


def moved(adapter: LoraAdapter, update: Arrays) -> LoraAdapter:
    arrays = {n: x + update[n] if n in update else x for n, x in adapter.arrays.items()}
    return LoraAdapter(arrays, adapter.alpha)


@pytest.fixture(scope="module")
def learned(base: BaseModel) -> LoraAdapter:
    """An adapter that knows the trained records by heart."""
    start = start_adapter(base)
    settings = TrainingSettings(
        batch_size=8, learning_rate=0.02, warmup_steps=1, epochs=15, threads=1
    )
    return moved(start, train(base, TRAINED, start, FFA, settings, seed=1).arrays)


def run(
    base: BaseModel,
    adapter: LoraAdapter,
    settings: ForgettingSettings = SETTINGS,
    *,
    forget_set: Sequence[Record] = FORGET,
    retain_set: Sequence[Record] = RETAIN,
    part: TrainedPart = FFA,
    seed: int = 1,
    **others: object,
) -> ForgettingResult:
    return forget(base, adapter, part, forget_set, retain_set, settings, seed=seed, **others)


def encoded(base: BaseModel, record: Record) -> Sequence[int]:
    """The tokens of a record's completion."""
    return encode([record], base.tokenizer, max_tokens=512)[0].completion


def tokens(base: BaseModel, records: Sequence[Record]) -> int:
    return sum(training_tokens(r, base.tokenizer, max_tokens=512) for r in records)


def readings(base: BaseModel, records: Sequence[Record], adapter: LoraAdapter | None) -> Readings:
    scores = evaluate(base, records, adapter).scores
    return Readings(
        {name: score.loss for name, score in scores.items()},
        {record.id: len(encoded(base, record)) for record in records},
    )


def same(first: ForgettingResult, second: ForgettingResult) -> bool:
    names = first.arrays.keys() | second.arrays.keys()
    return (first.losses, first.checks) == (second.losses, second.checks) and all(
        first.arrays[name].tobytes() == second.arrays[name].tobytes() for name in names
    )


@pytest.mark.parametrize("precision", [("none", "float32"), ("nf4", "bfloat16")])
def test_equal_inputs_give_equal_bits_in_whatever_order_and_another_seed_gives_others(
    folder: Path, precision: tuple[str, str]
) -> None:
    quantization, dtype = precision
    settings = BaseModelSettings(model=str(folder), quantization=quantization, compute_dtype=dtype)
    base = load_base_model(settings, folder)
    adapter = start_adapter(base)
    first = run(base, adapter, hold_out_set=HOLD_OUT)
    assert first.steps > 0
    assert same(first, run(base, adapter, hold_out_set=HOLD_OUT))
    assert same(first, run(base, adapter, forget_set=FORGET[::-1], hold_out_set=HOLD_OUT))
    assert same(first, run(base, adapter, retain_set=RETAIN[::-1], hold_out_set=HOLD_OUT[::-1]))
    assert not same(first, run(base, adapter, hold_out_set=HOLD_OUT, seed=2))


def test_neither_global_random_state_is_read_or_changed(
    base: BaseModel, learned: LoraAdapter
) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    first = run(base, learned)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tobytes() == states[1]
    torch.manual_seed(99)
    assert same(first, run(base, learned))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("micro", [{"micro_batch_size": 1}, {"micro_batch_tokens": 40}])
def test_smaller_micro_batches_change_rounding_only(
    base: BaseModel, learned: LoraAdapter, name: str, micro: dict[str, int]
) -> None:
    settings = replace(SETTINGS, method=name, learning_rate=1e-4, retain_weight=0.5)
    one = run(base, learned, settings)
    many = run(base, learned, replace(settings, **micro))
    assert one.losses == pytest.approx(many.losses, rel=1e-5)
    assert one.gradient_norms == pytest.approx(many.gradient_norms, rel=1e-4)


def test_the_reference_is_the_adapter_as_received_at_every_step(
    base: BaseModel, learned: LoraAdapter
) -> None:
    settings = replace(SETTINGS, beta=0.3, retain_weight=0.0, epochs=1)
    counts = torch.tensor([len(encoded(base, record)) for record in FORGET])
    one = run(base, learned, settings)
    two = run(base, learned, replace(settings, epochs=2))
    at_start = 2 / 0.3 * math.log(2) * len(FORGET) / int(counts.sum())
    assert one.losses[0] == pytest.approx(at_start, rel=1e-6)
    before, after = (
        torch.tensor([score.loss for score in evaluate(base, FORGET, adapter).scores.values()])
        for adapter in (learned, moved(learned, one.arrays))
    )
    nothing = torch.empty(0)
    expected = Npo(beta=0.3, retain_weight=0.0).loss(after, counts, before, nothing, nothing)
    assert two.losses == pytest.approx((one.losses[0], float(expected)), rel=1e-4)


@pytest.mark.parametrize("part", [FFA, TrainedPart(train_a=True, train_b=True, rank=4)])
def test_it_is_the_same_reference_whenever_it_is_read(
    base: BaseModel, learned: LoraAdapter, part: TrainedPart
) -> None:
    settings = replace(SETTINGS, beta=0.3, epochs=3)
    at_once, as_needed = (
        run(base, learned, replace(settings, checked_records=count), part=part) for count in (8, 1)
    )
    assert as_needed.read_tokens < at_once.read_tokens
    assert as_needed.losses == pytest.approx(at_once.losses, rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_forgets_the_records_and_keeps_the_others_better(
    base: BaseModel, learned: LoraAdapter, name: str
) -> None:
    settings = replace(SETTINGS, method=name, epochs=10)
    unlearned = moved(learned, run(base, learned, settings).arrays)
    rise = [
        evaluate(base, records, unlearned).loss - evaluate(base, records, learned).loss
        for records in (FORGET, RETAIN)
    ]
    assert rise[0] > 0.1
    assert rise[1] < 0.75 * rise[0]


def test_records_to_keep_are_kept_because_they_are_in_the_loss(
    base: BaseModel, learned: LoraAdapter
) -> None:
    with_them, without = (
        moved(learned, run(base, learned, replace(SETTINGS, epochs=12, retain_weight=w)).arrays)
        for w in (1.0, 0.0)
    )
    kept, lost = (evaluate(base, RETAIN, adapter).loss for adapter in (with_them, without))
    assert kept < lost


def test_it_stops_where_no_more_was_gained_on_the_records_than_on_unseen_ones(
    base: BaseModel, learned: LoraAdapter
) -> None:
    settings = replace(SETTINGS, epochs=60)
    result = run(base, learned, settings, hold_out_set=HOLD_OUT)
    assert result.stopped == "reached"
    assert 0 < result.steps < 60
    whole = [check for check in result.checks if check.share == 1.0]
    assert [check.step for check in whole] == list(range(result.steps + 1))
    assert [check.reached for check in whole] == [False] * (len(whole) - 1) + [True]
    unlearned, last = moved(learned, result.arrays), result.checks[-1]
    of_base, of_unlearned = (
        {
            name: readings(base, records, adapter)
            for name, records in (("forget", FORGET), ("hold-out", HOLD_OUT))
        }
        for adapter in (None, unlearned)
    )
    assert of_unlearned["forget"].mean == pytest.approx(last.forget_loss, rel=1e-4)
    # On the way back the hold-out rows were not read, and little is lost by that.
    assert [check.hold_out_loss is None for check in result.checks] == [
        check.share < 1 for check in result.checks
    ]
    unseen = Unseen.fitted(of_unlearned["hold-out"], of_base["hold-out"])
    mean = unseen.mean_excess(of_unlearned["forget"], of_base["forget"])
    assert mean == pytest.approx(last.excess, abs=CLOSE)
    assert last.reached


def test_what_was_pushed_too_far_goes_back_to_where_the_rule_is_met(
    base: BaseModel, learned: LoraAdapter
) -> None:
    settings = replace(SETTINGS, learning_rate=0.2, epochs=20)
    result = run(base, learned, settings, hold_out_set=HOLD_OUT)
    first_over = next(check for check in result.checks if check.reached)
    last = result.checks[-1]
    assert (first_over.step, first_over.share) == (last.step, 1.0)
    assert first_over.excess < last.excess <= CLOSE
    assert 0 < last.share < 1
    assert len(result.checks) - result.checks.index(first_over) - 1 <= 5
    # It ends where the last check says, not where a look in between did.
    loss = evaluate(base, FORGET, moved(learned, result.arrays)).loss
    assert loss == pytest.approx(last.forget_loss, rel=1e-4)


def test_hard_texts_are_not_taken_for_forgotten_nor_easy_ones_for_known(base: BaseModel) -> None:
    """Before anything was trained nothing is known, whatever the rows' own losses are."""
    arrays = start_adapter(base).arrays
    untouched = LoraAdapter(
        {n: x * np.float32(not n.endswith(B_SUFFIX)) for n, x in arrays.items()}, 8.0
    )
    for forget_set, hold_out_set in ((FORGET, HOLD_OUT), (HOLD_OUT, FORGET)):
        result = run(base, untouched, forget_set=forget_set, hold_out_set=hold_out_set)
        assert (result.stopped, result.steps) == ("reached", 0)
        assert result.checks[0].excess == 0.0


def test_it_goes_on_to_the_last_epoch_where_nothing_stops_it(
    base: BaseModel, learned: LoraAdapter
) -> None:
    gentle = replace(SETTINGS, learning_rate=1e-5)
    unreached = run(base, learned, gentle, hold_out_set=HOLD_OUT)
    assert (unreached.stopped, unreached.steps) == ("epochs", 6)
    assert [check.step for check in unreached.checks] == [0, 1, 2, 3, 4, 5, 6]
    blind = run(base, learned, replace(SETTINGS, epochs=24))
    assert (blind.stopped, blind.steps) == ("epochs", 24)
    assert [(c.step, c.hold_out_loss) for c in blind.checks] == [(0, None), (24, None)]
    assert blind.checks[-1].forget_loss > evaluate(base, HOLD_OUT, learned).loss


@pytest.mark.parametrize("count", [32, 3])
def test_records_that_nothing_is_remembered_of_are_not_pushed(
    base: BaseModel, learned: LoraAdapter, count: int
) -> None:
    """Whether checks read all records or a few of them."""
    unknown = texts(200, 8)
    gentle = replace(SETTINGS, learning_rate=1e-7, epochs=1, checked_records=count)
    gentle = replace(gentle, retain_weight=0.0)
    of_known = run(base, learned, gentle, hold_out_set=HOLD_OUT)
    of_both = run(base, learned, gentle, forget_set=FORGET + unknown, hold_out_set=HOLD_OUT)
    assert of_known.tokens == tokens(base, FORGET)
    assert of_both.tokens < tokens(base, FORGET) + tokens(base, unknown) / 2


def test_a_set_is_forgotten_evenly_and_not_the_first_ones_first(
    base: BaseModel, learned: LoraAdapter
) -> None:
    settings = replace(SETTINGS, epochs=60)
    unlearned = moved(learned, run(base, learned, settings, hold_out_set=HOLD_OUT).arrays)
    unseen = Unseen.fitted(readings(base, HOLD_OUT, unlearned), readings(base, HOLD_OUT, None))
    excesses = unseen.excesses(readings(base, FORGET, unlearned), readings(base, FORGET, None))
    at_first = Unseen.fitted(readings(base, HOLD_OUT, learned), readings(base, HOLD_OUT, None))
    remembered = at_first.excesses(readings(base, FORGET, learned), readings(base, FORGET, None))
    assert min(remembered.values()) > 0.5
    assert max(excesses.values()) < min(remembered.values())


def test_records_already_no_likelier_than_unseen_ones_are_left_alone(
    base: BaseModel, learned: LoraAdapter
) -> None:
    result = run(base, learned, forget_set=HOLD_OUT[:6], hold_out_set=FORGET)
    assert result.checks[0].excess < 0
    assert (result.stopped, result.steps, result.losses) == ("reached", 0, ())
    assert len(result.arrays) == len(base.linear_shapes())
    assert not any(np.any(array) for array in result.arrays.values())


@pytest.mark.parametrize("trained", ["a", "b", "both"])
def test_the_update_holds_the_trained_leading_slices_and_nothing_else(
    base: BaseModel, learned: LoraAdapter, trained: str
) -> None:
    part = TrainedPart(trained != "b", trained != "a", rank=2)
    before = {name: array.copy() for name, array in learned.arrays.items()}
    expected = {}
    for module, shape in base.linear_shapes().items():
        if part.train_a:
            expected[module + A_SUFFIX] = (2, shape.in_features)
        if part.train_b:
            expected[module + B_SUFFIX] = (shape.out_features, 2)
    result = run(base, learned, part=part)
    assert {name: array.shape for name, array in result.arrays.items()} == expected
    assert all(array.dtype == np.float32 and array.any() for array in result.arrays.values())
    assert all(np.array_equal(learned.arrays[name], before[name]) for name in before)


def test_tokens_are_counted_by_what_they_were_read_for(
    base: BaseModel, learned: LoraAdapter
) -> None:
    gentle = replace(SETTINGS, learning_rate=1e-7, epochs=2)
    alone = run(base, learned, replace(gentle, retain_weight=0.0), hold_out_set=HOLD_OUT)
    assert alone.tokens == 2 * tokens(base, FORGET)
    # The base, before, and after each step.
    assert alone.read_tokens == 4 * (tokens(base, FORGET) + tokens(base, HOLD_OUT))
    assert (alone.records, alone.truncated) == (8, 0)
    # Eight a pass as well, of a set of eight: each once, whichever are drawn.
    beside = run(base, learned, gentle, retain_set=RETAIN[:8])
    assert beside.tokens == 2 * tokens(base, FORGET) + 2 * tokens(base, RETAIN[:8])
    assert beside.read_tokens == 2 * tokens(base, FORGET)
    # Of a large set checks read a few; the others' reference is read before the first step.
    few = run(base, learned, replace(gentle, checked_records=2))
    assert tokens(base, FORGET) < few.read_tokens < 2 * tokens(base, FORGET)
    blind = run(base, learned, replace(gentle, checked_records=2, method="grad-diff"))
    assert blind.read_tokens < tokens(base, FORGET)


def test_copies_of_a_record_are_read_once_and_pushed_as_often_as_they_are_there(
    base: BaseModel, learned: LoraAdapter
) -> None:
    settings = replace(SETTINGS, epochs=3, retain_weight=0.0, micro_batch_size=3)
    copies = [replace(record, id=f"copy of {record.id}") for record in FORGET]
    once, twice = (
        run(base, learned, settings, forget_set=forget_set, hold_out_set=HOLD_OUT)
        for forget_set in (FORGET, FORGET + copies)
    )
    assert (twice.tokens, twice.read_tokens) == (once.tokens, once.read_tokens)
    assert (once.records, twice.records) == (8, 16)
    for name, array in once.arrays.items():
        np.testing.assert_allclose(array, twice.arrays[name], rtol=1e-3, atol=1e-4)
    # One of them twice weighs more than the others.
    uneven = run(base, learned, settings, forget_set=FORGET + copies[:1], hold_out_set=HOLD_OUT)
    assert uneven.losses[0] != pytest.approx(once.losses[0], rel=1e-3)


def test_other_records_are_kept_at_other_steps(base: BaseModel, learned: LoraAdapter) -> None:
    settings = replace(SETTINGS, epochs=4, learning_rate=1e-8)
    losses = run(base, learned, settings).losses
    assert len(set(losses)) == len(losses) == 4
    few = run(base, learned, settings, retain_set=RETAIN[:5]).losses
    assert few == pytest.approx([few[0]] * 4, rel=1e-5)


def test_progress_tells_every_step_and_threads_are_as_named(
    base: BaseModel, learned: LoraAdapter
) -> None:
    told: list[tuple[int, int, float]] = []
    before = torch.get_num_threads()
    settings = replace(SETTINGS, threads=before + 1)
    result = run(base, learned, settings, progress=lambda *step: told.append(step))
    assert [step for step, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6} == {result.steps}
    assert [loss for _, _, loss in told] == list(result.losses)
    assert len(result.gradient_norms) == 6
    assert result.threads == before + 1
    assert torch.get_num_threads() == before


def test_sets_that_cannot_be_told_apart_or_are_empty_are_refused(
    base: BaseModel, learned: LoraAdapter
) -> None:
    with pytest.raises(TrainingError, match="no records to forget"):
        run(base, learned, forget_set=[])
    with pytest.raises(TrainingError, match="no records to keep: npo needs some"):
        run(base, learned, retain_set=[])
    run(base, learned, replace(SETTINGS, method="grad-ascent", epochs=1), retain_set=[])
    with pytest.raises(TrainingError, match="text-0 is in the forget set and in the forget set"):
        run(base, learned, forget_set=[FORGET[0], FORGET[0]])
    with pytest.raises(TrainingError, match="text-0 is in the forget set and in the retain set"):
        run(base, learned, retain_set=TRAINED)
    with pytest.raises(TrainingError, match="text-8 is in the retain set and in the hold-out set"):
        run(base, learned, hold_out_set=RETAIN)


def test_an_adapter_that_does_not_fit_or_breaks_is_refused(
    base: BaseModel, learned: LoraAdapter
) -> None:
    with pytest.raises(ValueError, match="rank 5 of an adapter of rank 4"):
        run(base, learned, part=TrainedPart(train_a=False, train_b=True, rank=5))
    strange = {n.replace("q_proj", "p_proj"): x for n, x in learned.arrays.items()}
    with pytest.raises(AdapterError, match="no such linear layer"):
        run(base, LoraAdapter(strange, 8.0))
    huge = {n: x * np.float32(1e30) for n, x in learned.arrays.items()}
    with pytest.raises(TrainingError, match="after 0 steps the records' loss is nan"):
        run(base, LoraAdapter(huge, 8.0))
