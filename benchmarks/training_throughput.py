"""Local training against transformers' Trainer: real tokens a second, and loss for equal steps.

    python -m benchmarks.training_throughput [--steps 12] [--repeats 3] [--threads 2]

Everything trains the same NF4 model on the same film reviews and tweets, with batches of 16, AdamW
at 1e-3, clipping at 1 and loss on completions alone, from the same adapter of rank 16 on all linear
layers. The contenders take turns in one process, so that a busy machine slows all of them, and are
compared within each turn. Tokens are counted without padding and alike for all. The loss is
measured on held-out rows by one and the same evaluation; each turn has its own seed, for the order
of the batches is worth more than the difference between the loops.

- ``trainer``: the usual recipe: ``prepare_model_for_kbit_training``, ``get_peft_model``, Trainer
  with its defaults (4-bit compute in float32, gradient checkpointing, random batches).
- ``trainer-bf16-grouped``: the same with bfloat16 compute and batches grouped by length.
- ``trainer-bf16-grouped-kept``: that without gradient checkpointing, which a model of this size
  does not need.
- ``foedus``: :func:`llm.training.train`, both factors trained as above.
- ``foedus-ffa``: the default of a federated round: B alone.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from benchmarks.provenance import RESULTS, provenance
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.embedded_data import embedded_organization
from llm.evaluation import evaluate
from llm.factors import A_SUFFIX, B_SUFFIX, Arrays
from llm.model_source import BaseModelSettings
from llm.quantization import forbid_inference_packing
from llm.records import Record
from llm.tokenization import EncodedRecord, encode
from llm.training import TrainedPart, train
from llm.training_settings import TrainingSettings

RANK, ALPHA, BATCH, LEARNING_RATE = 16, 32.0, 16, 1e-3
DOMAINS = ("cinema", "microblog")


@dataclass(frozen=True)
class Task:
    """What every contender gets."""

    base: BaseModel
    records: Sequence[Record]
    encoded: Sequence[EncodedRecord]
    start: LoraAdapter

    @property
    def tokens(self) -> int:
        """Tokens of all records, once each, without padding."""
        return sum(record.tokens for record in self.encoded)


@dataclass(frozen=True)
class Trained:
    """What a contender gives back."""

    arrays: Arrays
    seconds: float


Contender = Callable[[Task, int], Trained]


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    cache = options.home.expanduser() / "cache"
    base = load_base_model(BaseModelSettings(), cache)
    task = make_task(base, cache, options.steps)
    held_out = held_out_rows(cache, options.held_out)
    contenders = make_contenders(base)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.repeats):
        for name, contender in contenders.items():
            trained = contender(task, turn)
            seconds[name].append(trained.seconds)
            adapter = LoraAdapter(trained.arrays, ALPHA)
            losses[name].append(evaluate(base, held_out, adapter).loss)
            speed = task.tokens / trained.seconds
            Console(stderr=True).print(f"turn {turn + 1}: {name} {speed:.0f} tokens/s")
    report = {
        **provenance(
            " ".join(["python -m benchmarks.training_throughput", *sys.argv[1:]]),
            *("torch", "transformers", "peft", "bitsandbytes", "accelerate"),
        ),
        "threads": options.threads,
        "rows": len(task.records),
        "tokens": task.tokens,
        "steps": options.steps,
        "base_loss": evaluate(base, held_out).loss,
        "contenders": {
            name: {
                "seconds": [round(value, 3) for value in seconds[name]],
                "tokens_per_second": round(task.tokens / statistics.median(seconds[name]), 1),
                **{
                    f"times_{other}": [
                        round(theirs / mine, 2)
                        for theirs, mine in zip(seconds[other], seconds[name], strict=True)
                    ]
                    for other in ("trainer", "trainer-bf16-grouped")
                },
                "held_out_losses": [round(value, 4) for value in losses[name]],
                "held_out_loss": round(statistics.mean(losses[name]), 4),
            }
            for name in contenders
        },
        "products": matrix_rate(base, task),
        "shares": {
            "foedus-ffa": shares(lambda: ours(task, 0, train_a=False)),
            "trainer-bf16-grouped": shares(lambda: contenders["trainer-bf16-grouped"](task, 0)),
        },
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every contender")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--held-out", type=int, default=64, help="held-out rows of each domain")
    parser.add_argument(
        "--home", type=Path, default=Path(os.environ.get("FOEDUS_HOME") or "~/.foedus")
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "training_throughput.json")
    return parser.parse_args()


def make_task(base: BaseModel, cache: Path, steps: int) -> Task:
    each = steps * BATCH // len(DOMAINS)
    records = [
        record
        for name in DOMAINS
        for record in draw(
            embedded_organization(name, cache).train, each, seed=1, round=1, organization=name
        )
    ]
    generator = np.random.default_rng(1)
    arrays: Arrays = {}
    for module, shape in base.linear_shapes().items():
        a = generator.uniform(-1, 1, (RANK, shape.in_features)) / np.sqrt(shape.in_features)
        arrays[module + A_SUFFIX] = a.astype(np.float32)
        arrays[module + B_SUFFIX] = np.zeros((shape.out_features, RANK), np.float32)
    encoded = encode(records, base.tokenizer, max_tokens=512)
    return Task(base, records, encoded, LoraAdapter(arrays, ALPHA))


def held_out_rows(cache: Path, each: int) -> list[Record]:
    return [
        record
        for name in DOMAINS
        for record in draw(
            embedded_organization(name, cache).validation,
            each,
            seed=1,
            round=1,
            organization=name,
        )
    ]


def make_contenders(base: BaseModel) -> dict[str, Contender]:
    plain = UsualLoop(base, bf16=False, checkpointing=True)
    grouped = UsualLoop(base, bf16=True, checkpointing=True)
    kept = UsualLoop(base, bf16=True, checkpointing=False)
    return {
        "trainer": plain,
        "trainer-bf16-grouped": grouped,
        "trainer-bf16-grouped-kept": kept,
        "foedus": lambda task, seed: ours(task, seed, train_a=True),
        "foedus-ffa": lambda task, seed: ours(task, seed, train_a=False),
    }


def ours(task: Task, seed: int, *, train_a: bool) -> Trained:
    started = time.perf_counter()
    result = train(
        task.base,
        task.records,
        task.start,
        TrainedPart(train_a=train_a, train_b=True, rank=RANK),
        TrainingSettings(learning_rate=LEARNING_RATE, batch_size=BATCH, warmup_steps=0),
        seed=seed,
    )
    seconds = time.perf_counter() - started
    arrays = {
        name: array + result.arrays[name] if name in result.arrays else array
        for name, array in task.start.arrays.items()
    }
    return Trained(arrays, seconds)


class UsualLoop:
    """The recipe of PEFT's and transformers' own guides for training on a 4-bit model."""

    def __init__(self, base: BaseModel, *, bf16: bool, checkpointing: bool) -> None:
        self._bf16 = bf16
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            **({"bnb_4bit_compute_dtype": torch.bfloat16} if bf16 else {}),
        )
        with contextlib.redirect_stderr(io.StringIO()):
            model: Any = AutoModelForCausalLM.from_pretrained(base.path, quantization_config=config)
        # Nothing is evaluated between its turns, but a benchmark of wrong gradients is none.
        forbid_inference_packing(model)
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
        lora = LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self._model = get_peft_model(model, lora)
        self._padding = base.tokenizer

    def __call__(self, task: Task, seed: int) -> Trained:
        """Train once over the task's records."""
        start = {name: torch.from_numpy(array) for name, array in task.start.arrays.items()}
        set_peft_model_state_dict(self._model, start)
        rows = [
            {
                "input_ids": list(record.prompt + record.completion),
                "attention_mask": [1] * record.tokens,
                "labels": [-100] * len(record.prompt) + list(record.completion),
                "length": record.tokens,
            }
            for record in task.encoded
        ]
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            trainer = Trainer(
                model=self._model,
                args=self._arguments(folder, seed),
                train_dataset=rows,
                data_collator=DataCollatorForSeq2Seq(self._padding, padding=True),
            )
            started = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - started
        state = get_peft_model_state_dict(self._model)
        return Trained({name: x.float().numpy() for name, x in state.items()}, seconds)

    def _arguments(self, folder: str, seed: int) -> TrainingArguments:
        return TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            bf16=self._bf16,
            train_sampling_strategy="group_by_length" if self._bf16 else "random",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=seed,
        )


def matrix_rate(base: BaseModel, task: Task) -> dict[str, float]:
    """Measure the frozen layers' products alone, at a step's size, and what they would allow."""
    tokens = round(task.tokens / len(task.records) * BATCH)
    dtype = base.compute_dtype
    seconds = operations = 0.0
    shapes = list(base.linear_shapes().values())
    for shape in set(shapes):
        count = shapes.count(shape)
        weights = [
            torch.randn(shape.out_features, shape.in_features).to(dtype) for _ in range(count)
        ]
        x = torch.randn(tokens, shape.in_features).to(dtype)
        g = torch.randn(tokens, shape.out_features).to(dtype)
        seconds += best(lambda x=x, weights=weights: [x @ w.T for w in weights][-1])
        seconds += best(lambda g=g, weights=weights: [g @ w for w in weights][-1])
        operations += 4.0 * tokens * shape.out_features * shape.in_features * count
    return {
        "tokens_per_step": tokens,
        "gigaflops_per_second": round(operations / seconds / 1e9, 1),
        "tokens_per_second_if_products_were_all": round(tokens / seconds, 1),
    }


def best(work: Callable[[], Any], times: int = 5) -> float:
    measured = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        measured.append(time.perf_counter() - started)
    return min(measured)


#: Kinds of work by the names of torch's operations; what is in none is "other".
KINDS = {
    "matrix products": ("mm", "addmm", "addmm_", "bmm", "baddbmm", "gemm_4bit", "linear"),
    "torch's attention": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "dequantization": ("dequantize_4bit", "dequantize_blockwise"),
    "softmax": ("_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data"),
    "copies and casts": ("copy_", "cat", "fill_", "index_select", "clone", "zero_"),
    "element by element": (
        *("mul", "mul_", "add", "add_", "sub", "div", "div_", "neg", "pow", "rsqrt", "rsqrt_"),
        *("silu", "silu_backward", "addcmul_", "square_", "mean", "sum", "linalg_vector_norm"),
    ),
}


def shares(work: Callable[[], Any]) -> dict[str, float]:
    """Return what share of a run's time on the processor each kind of operation takes."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        work()
    spent = {
        event.key.rpartition("::")[2]: event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(spent.values())
    known = {kind: sum(spent.get(name, 0) for name in names) for kind, names in KINDS.items()}
    known["other (optimizer, autograd, Python)"] = total - sum(known.values())
    return {kind: round(value / total, 3) for kind, value in known.items()}


def show(report: dict[str, Any]) -> None:
    table = Table("loop", "tokens/s", "times trainer", "times bf16, grouped", "held-out loss")
    for name, row in report["contenders"].items():
        table.add_row(
            name,
            f"{row['tokens_per_second']:.0f}",
            spread(row["times_trainer"]),
            spread(row["times_trainer-bf16-grouped"]),
            f"{row['held_out_loss']:.3f} ({spread(row['held_out_losses'])})",
        )
    console = Console()
    console.print(table)
    console.print(f"untouched base: held-out loss {report['base_loss']:.3f}")
    console.print(
        f"the products alone would allow "
        f"{report['products']['tokens_per_second_if_products_were_all']:.0f} tokens/s"
    )


def spread(values: Sequence[float]) -> str:
    """Return the least and the greatest value."""
    return f"{min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    main()
