"""Every setting of a run, one kebab-case key of ``[tool.flwr.app.config]`` each."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from strategies.aggregation import check_combination

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, or does not go with another; one line says which."""


def _kebab(name: str) -> str:
    return name.replace("_", "-")


Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunSettings(BaseModel):
    """The settings of one run; each field's description is its line in the README's table."""

    model_config = ConfigDict(
        alias_generator=_kebab, extra="forbid", frozen=True, strict=True, populate_by_name=True
    )

    mode: Literal["train"] = Field("train", description="What the run does.")
    home: str = Field(
        "",
        description="Folder of everything a run writes, absolute. Empty: `FOEDUS_HOME`, "
        "or `~/.foedus`.",
    )
    run_name: str = Field("", description="Name of the run's folder. Empty: date and time.")
    resume: bool = Field(
        False, description="Continue the newest unfinished run (or `run-name`) where it stopped."
    )
    seed: int = Field(
        42, ge=0, lt=2**63, description="Seed of everything drawn: records, order, A, dropout."
    )

    organizations: str = Field(
        "cinema,microblog,shop,newspaper",
        description="Who takes part, by name, separated by commas.",
    )
    data: str = Field(
        "embedded",
        description="`embedded`; an organization's own `.jsonl` or `.csv` by absolute path, in "
        "which `{organization}` stands for the name; or `hub:NAME`, a data set of the hub.",
    )
    data_form: Literal["text-label", "prompt-completion", "chat"] = Field(
        "text-label", description="Form of the rows of `data` other than `embedded`."
    )
    data_labels: str = Field(
        "negative,positive", description="Label words of the form `text-label`."
    )
    partition: Literal["none", "iid", "dirichlet", "column"] = Field(
        "none",
        description="For experiments: split one data set (`data` without `{organization}`, or "
        "`embedded:NAME`) among the organizations.",
    )
    partition_alpha: PositiveFloat = Field(
        1.0, description="Concentration of `dirichlet`; small is uneven."
    )
    partition_column: str = Field("group", description="Column of `column`.")

    model: str = Field(
        "embedded",
        description="`embedded` (SmolLM2-135M-Instruct), or any Hugging Face causal model by "
        "hub name or absolute path.",
    )
    quantization: Literal["nf4", "int8", "none"] = Field(
        "nf4", description="How the base's weights are held."
    )
    compute_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Arithmetic of the base; `auto`: bf16 where the processor is fast at it.",
    )

    rank: int = Field(16, ge=1, le=1024, description="LoRA rank of the run.")
    ranks: str = Field(
        "", description="Smaller ranks of single organizations: `shop=8,newspaper=4`."
    )
    alpha: PositiveFloat = Field(32.0, description="LoRA alpha; the scale is `alpha / rank`.")
    target_modules: str = Field(
        "all-linear", description="Adapted layers: `all-linear`, or names such as `q_proj,v_proj`."
    )

    rounds: int = Field(6, ge=1, le=10_000, description="Rounds of the run.")
    records_per_round: Positive = Field(
        128, description="Records each organization draws in a round."
    )
    epochs: Positive = Field(1, description="Passes over the records drawn.")
    batch_size: Positive = Field(16, description="Records in a step.")
    micro_batch_size: Positive = Field(
        16, description="Records in one pass; steps accumulate gradients over several."
    )
    learning_rate: PositiveFloat = Field(1e-3, description="Peak learning rate (AdamW).")
    warmup_steps: int = Field(2, ge=0, description="Steps of linear warm-up in each round.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Learning rate after the warm-up, within a round."
    )
    max_gradient_norm: PositiveFloat = Field(1.0, description="Gradients are clipped to this norm.")
    max_tokens: int = Field(
        256, ge=8, description="Longest record in tokens; a longer prompt loses its beginning."
    )
    validation_records: int = Field(
        64, ge=0, description="Hold-out rows on which the received adapter is evaluated each round."
    )

    aggregation: Literal["ffa", "alternating", "fedit", "flora", "accumulators"] = Field(
        "ffa", description="Aggregation rule, see [aggregation](docs/aggregation.md)."
    )
    robust: Literal["none", "norm-clip", "trimmed-mean", "multi-krum", "geometric-median"] = Field(
        "none", description="Robust statistic in the mean's place (`ffa` and `alternating`)."
    )
    clip_norm: NonNegativeFloat = Field(
        0.0, description="`norm-clip`: bound on an update's norm. 0: the round's median."
    )
    byzantine: int = Field(
        1, ge=0, description="`trimmed-mean`, `multi-krum`: how many organizations may be hostile."
    )
    accumulator_rank: int = Field(
        0, ge=0, description="`accumulators`: rank kept for each organization. 0: `rank`."
    )
    weight_cap: float = Field(
        1.0, gt=0, le=1, description="Largest share of one organization in the aggregate."
    )
    norm_bound: NonNegativeFloat = Field(
        0.0, description="An update of a larger norm is rejected. 0: no bound."
    )
    min_organizations: Positive = Field(
        2, description="Fewer accepted updates leave a round's adapter unchanged."
    )
    round_deadline: PositiveFloat = Field(3600.0, description="Seconds a round waits for replies.")

    chain_url: str = Field(
        "managed",
        description="`managed` (a Hardhat node on this machine, started if none runs), or the "
        "URL of any EVM node.",
    )
    chain_id: Positive = Field(31337, description="Chain id that the node must have.")
    chain_port: int = Field(8545, ge=1, le=65535, description="Port of the managed node.")

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> Self:
        """Check a Flower run configuration.

        Raises
        ------
        SettingsError
            One line for the first thing that is wrong.
        """
        try:
            return cls.model_validate(dict(run_config), by_alias=True, by_name=False)
        except ValidationError as error:
            raise SettingsError(_one_line(error)) from None

    def to_run_config(self) -> dict[str, Any]:
        """Return the settings under their kebab-case keys."""
        return self.model_dump(by_alias=True)

    @field_validator(
        "learning_rate",
        "alpha",
        "weight_cap",
        "norm_bound",
        "clip_norm",
        "round_deadline",
        "max_gradient_norm",
        "partition_alpha",
        mode="before",
    )
    @classmethod
    def _whole_numbers_are_floats(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @field_validator("home")
    @classmethod
    def _home_is_absolute(cls, value: str) -> str:
        # The application runs wherever the SuperLink was started: a relative path means nothing.
        if value and not Path(value).expanduser().is_absolute():
            raise ValueError("expected an absolute path")
        return value

    @field_validator("run_name")
    @classmethod
    def _run_name_is_a_name(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value.lower()):
            raise ValueError("expected letters, digits, '-' and '_', at most 64")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        names = self.organization_names
        if not names:
            raise ValueError("organizations: none named, expected at least one")
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"organizations: {name!r}, expected lower-case letters, digits, '-' and '_'"
                )
        if len(set(names)) != len(names):
            raise ValueError("organizations: a name stands twice")
        for organization, rank in self._parsed_ranks().items():
            if organization not in names:
                raise ValueError(f"ranks: {organization!r} is not among the organizations")
            if not 1 <= rank <= self.rank:
                raise ValueError(
                    f"ranks: {organization}={rank}, expected 1 to the run's rank {self.rank}"
                )
        if self.min_organizations > len(names):
            raise ValueError(
                f"min-organizations is {self.min_organizations}, but only {len(names)} take part"
            )
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch-size {self.batch_size} is no multiple of "
                f"micro-batch-size {self.micro_batch_size}"
            )
        check_combination(self.aggregation, self.robust)
        if self.robust == "multi-krum" and len(names) < 2 * self.byzantine + 3:
            raise ValueError(
                f"multi-krum with byzantine={self.byzantine} needs at least "
                f"{2 * self.byzantine + 3} organizations, {len(names)} take part"
            )
        if self.robust == "trimmed-mean" and len(names) <= 2 * self.byzantine:
            raise ValueError(
                f"trimmed-mean with byzantine={self.byzantine} needs more than "
                f"{2 * self.byzantine} organizations, {len(names)} take part"
            )
        if self.partition != "none" and "{organization}" in self.data:
            raise ValueError("partition splits one data set; data names one for each organization")
        return self

    @property
    def organization_names(self) -> list[str]:
        """Who takes part, in the order given."""
        return [name.strip() for name in self.organizations.split(",") if name.strip()]

    def rank_of(self, organization: str) -> int:
        """Return the rank an organization trains."""
        return self._parsed_ranks().get(organization, self.rank)

    @property
    def home_path(self) -> Path:
        """Folder of everything a run writes."""
        return foedus_home(self.home)

    def _parsed_ranks(self) -> dict[str, int]:
        ranks = {}
        for part in filter(None, (p.strip() for p in self.ranks.split(","))):
            name, separator, rank = part.partition("=")
            if not separator or not rank.strip().isdigit():
                raise ValueError(f"ranks: {part!r}, expected NAME=RANK")
            ranks[name.strip()] = int(rank)
        return ranks


def foedus_home(home: str = "") -> Path:
    """Return the given home, else ``FOEDUS_HOME``, else ``~/.foedus``, absolute."""
    return Path(home or os.environ.get("FOEDUS_HOME") or "~/.foedus").expanduser().absolute()


def cache_folder(home: Path) -> Path:
    """Return where models and data are cached: ``FOEDUS_CACHE``, else ``<home>/cache``."""
    return Path(os.environ.get("FOEDUS_CACHE") or home / "cache").expanduser().absolute()


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = _kebab(str(first["loc"][0])) if first["loc"] else ""
    given = first.get("input")
    match first["type"]:
        case "extra_forbidden":
            return f"unknown setting {key!r}"
        case "value_error":
            message = str(first["ctx"]["error"])
            return f"{key}: {given!r}: {message}" if key else message
        case "missing":
            return f"setting {key!r} is missing"
        case _:
            message = first["msg"][0].lower() + first["msg"][1:]
            if isinstance(given, float) and not math.isfinite(given):
                message = "expected a finite number"
            return f"{key}: {given!r}: {message}"
