"""Every setting of a run, one kebab-case key of ``[tool.flwr.app.config]`` each."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from blockchain.chain_settings import DEVELOPMENT_CHAIN_ID
from llm.schedules import Schedule
from strategies.effort import Effort
from strategies.first_rounds import FirstRounds
from strategies.home import foedus_home
from strategies.lineage import Lineage
from strategies.setting_checks import check_settings
from strategies.setting_values import EMBEDDED_DATA, kebab, one_line, pairs, percents, whole_numbers

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type, or does not go with another; one line says which."""


Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
#: At least one millionth, the unit in which scores are counted.
Nats = Annotated[float, Field(ge=1e-6, le=1000, allow_inf_nan=False)]


class RunSettings(BaseModel):
    """The settings of one run; each field's description is its line in the README's table."""

    model_config = ConfigDict(
        alias_generator=kebab, extra="forbid", frozen=True, strict=True, populate_by_name=True
    )

    mode: Literal["train", "unlearn", "replay"] = Field(
        "train",
        description="`train`; `unlearn`: carry out the open requests to forget; `replay`: make the "
        "rounds of `run-name`, which made another run's again, once more, and compare. See "
        "[unlearning](docs/unlearning.md).",
    )
    home: str = Field(
        "",
        description="Folder of everything a run writes, absolute. Empty: `FOEDUS_HOME`, "
        "or `~/.foedus`.",
    )
    run_name: str = Field("", description="Name of the run's folder. Empty: date and time.")
    resume: bool = Field(
        False, description="Continue the newest unfinished run (or `run-name`) where it stopped."
    )
    bundle: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of the application that organizations on machines of their own run, "
        "by which each refuses to start any other. Empty in a simulation.",
    )
    seed: int = Field(
        42, ge=0, lt=2**63, description="Seed of everything drawn: records, order, A, dropout."
    )

    lineage: str = Field(
        "",
        description="Rounds of earlier tasks that the run goes on from, `0xTASK:ROUND,...`; "
        "written by a coordinator that unlearns, never by hand.",
    )
    requests: str = Field(
        "",
        description="Ids of the requests to forget that the run carries out; written with "
        "`lineage`.",
    )

    unlearners: str = Field(
        "",
        description="Organizations that make the model forget by training, one in each of the "
        "run's first rounds; written with `requests`.",
    )
    leavers: str = Field(
        "",
        description="Organizations that leave: without whose isolated adapters, or without whose "
        "own terms, the run goes on; written with `requests`.",
    )
    forgetting_method: Literal["npo", "grad-diff", "simnpo", "grad-ascent"] = Field(
        "npo", description="Loss by which `foedus unlearn --method fast` forgets."
    )
    forgetting_epochs: int = Field(
        10,
        ge=1,
        le=1000,
        description="Most passes over the records to forget; it stops where no more is remembered "
        "of them than of rows never trained on.",
    )
    forgetting_learning_rate: float = Field(
        1e-3, gt=0, le=1, allow_inf_nan=False, description="Step size of that (AdamW)."
    )
    recovery_rounds: int = Field(
        4,
        ge=0,
        le=100,
        description="Rounds in which the others train on after an organization has left that way.",
    )
    record_recovery_rounds: int = Field(
        0, ge=0, le=100, description="The same after records were forgotten that way."
    )
    recovery_projection: bool = Field(
        False,
        description="Whether each removes from its update in those what would undo the unlearning.",
    )

    organizations: str = Field(
        "cinema,microblog,shop,newspaper",
        description="Who takes part, by name, separated by commas.",
    )
    data: str = Field(
        EMBEDDED_DATA,
        description="`embedded`; an organization's own `.jsonl` or `.csv` by absolute path, in "
        "which `{organization}` stands for the name; or `hub:NAME`, a data set of the hub. "
        "See [data](docs/data.md).",
    )
    data_form: Literal["text-label", "prompt-completion", "chat"] = Field(
        "text-label", description="Form of the rows of a file or hub data set."
    )
    data_fields: str = Field(
        "", description="Names of a row's fields where they differ: `text=body,id=key,group=doc`."
    )
    data_labels: str = Field(
        "negative,positive",
        description="Label words of the form `text-label`; `0=negative,1=positive` where the "
        "rows hold something else.",
    )
    data_template: str = Field(
        "{text}\nLabel:", description="Prompt of the form `text-label`; `{text}` is the text."
    )
    partition: Literal["none", "iid", "dirichlet", "group"] = Field(
        "none",
        description="For experiments: split one data set (`embedded:NAME`, a file, `hub:NAME`) "
        "among the organizations.",
    )
    partition_alpha: PositiveFloat = Field(
        1.0, description="Concentration of `dirichlet`; small is uneven."
    )

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
    epochs: int = Field(1, ge=1, le=1000, description="Passes over the records drawn.")
    batch_size: int = Field(16, ge=1, le=4096, description="Records in a step.")
    micro_batch_size: int = Field(
        16,
        ge=1,
        le=4096,
        description="Records in one pass; steps accumulate gradients over several.",
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=1, allow_inf_nan=False, description="Peak learning rate (AdamW)."
    )
    warmup_steps: int = Field(2, ge=0, description="Steps of linear warm-up in each round.")
    schedule: Schedule = Field(
        "constant", description="Learning rate after the warm-up, within a round."
    )
    round_schedule: Schedule = Field(
        "linear",
        description="What of that is left over the rounds of the run. Rounds of recovery have all "
        "of it.",
    )
    max_gradient_norm: PositiveFloat = Field(1.0, description="Gradients are clipped to this norm.")
    max_tokens: int = Field(
        256, ge=8, description="Longest record in tokens; a longer prompt loses its beginning."
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads of training; 0: as many as the process may use. Some processors sum "
        "in another order on another number, and give other last bits.",
    )
    validation_records: int = Field(
        64, ge=0, description="Hold-out rows on which the received adapter is evaluated each round."
    )

    privacy_epsilon: NonNegativeFloat = Field(
        0.0,
        le=1000,
        description="Local differential privacy: what updates may say of one record over all of "
        "the run's rounds. 0: none. See [privacy](docs/privacy.md).",
    )
    privacy_delta: PositiveFloat = Field(
        1e-5, le=1, description="The probability with which that may fail."
    )
    privacy_clip: PositiveFloat = Field(
        1.0, description="A record's gradient is shortened to this norm before noise is added."
    )

    aggregation: Literal["ffa", "alternating", "fedit", "flora", "accumulators"] = Field(
        "ffa", description="Aggregation rule, see [aggregation](docs/aggregation.md)."
    )
    isolation: bool = Field(
        False,
        description="Each organization's adapter is trained from the base and its own data alone, "
        "and their weighted sum is served: then whoever leaves is taken out without training. See "
        "[unlearning](docs/unlearning.md).",
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
        100.0,
        description="An update of a larger norm is rejected; the demo's are 8 to 10. 0: no bound.",
    )
    min_organizations: Positive = Field(
        2, description="Fewer accepted updates leave a round's adapter unchanged."
    )
    round_deadline: PositiveFloat = Field(3600.0, description="Seconds a round waits for replies.")

    participation: Literal["learn", "evaluate", "always"] = Field(
        "learn",
        description="`learn`: each organization's agent decides whether to join a round and with "
        "how much effort, and learns from what it is paid; `evaluate`: it decides and learns "
        "nothing; `always`: full effort in every round. See [participation]"
        "(docs/participation.md).",
    )
    effort_by: Literal["steps", "rank"] = Field(
        "steps",
        description="What effort changes: local `steps`, on fewer records, or the LoRA `rank`.",
    )
    effort_levels: str = Field(
        "50,75,100", description="Low, mid and high effort, in percent of all records or the rank."
    )
    token_price: Positive = Field(
        30, lt=2**53, description="What a token processed costs an organization, in gwei."
    )
    token_prices: str = Field(
        "", description="Prices of single organizations: `shop=20,newspaper=5`."
    )
    token_budget: int = Field(
        0,
        ge=0,
        lt=2**53,
        description="Tokens an organization may spend in an epoch of rounds. 0: any number.",
    )
    budget_epoch: Positive = Field(
        6, lt=2**31, description="Rounds that `token-budget` is for; then it is full again."
    )

    attestors: str = Field(
        "",
        description="Organizations that recompute and score each round and sign what they found, "
        "separated by commas. Empty: the first two.",
    )
    challenge_window: int = Field(
        600, ge=1, lt=2**32, description="Seconds after a seal in which an omission is challenged."
    )
    response_window: int = Field(
        600, ge=1, lt=2**32, description="Seconds after that in which a challenge is answered."
    )
    challenge_bond: int = Field(
        1_000_000,
        ge=0,
        lt=2**53,
        description="What a challenge costs until it is settled, in gwei.",
    )

    chain_url: str = Field(
        "managed",
        description="`managed` (a Hardhat node on this machine, started if none runs), or the "
        "URL of any EVM node.",
    )
    chain_id: int = Field(
        DEVELOPMENT_CHAIN_ID, ge=1, lt=2**63, description="Chain id that the node must have."
    )
    chain_port: int = Field(
        0, ge=0, le=65535, description="Port of the managed node. 0: the first free from 8545."
    )

    anchor_interval: int = Field(
        1,
        ge=0,
        le=10_000,
        description="Rounds after which an organization anchors its private ledger on the public "
        "chain; it does so at the end of a run as well. 0: never. See [ledger](docs/ledger.md).",
    )

    backup_days: int = Field(
        30,
        ge=0,
        le=3650,
        description="Days after which the coordinator's backups of files that were purged are "
        "gone; a receipt names the day.",
    )

    public_validation: str = Field(
        EMBEDDED_DATA,
        description="Rows on which contributions are scored: `embedded`, those of the embedded "
        "data that no organization holds (none where `data` is not embedded); a `.jsonl` or `.csv` "
        "of the form `data-form` by absolute path, which a coordinator of separate machines hands "
        "out; or `none`. Without rows there are no scores and no rewards. See "
        "[rewards](docs/rewards.md).",
    )
    public_validation_records: Positive = Field(
        48, description="How many of them are drawn, the same ones every round."
    )
    score_method: Literal["leave-one-out", "first-order"] = Field(
        "leave-one-out",
        description="How contributions are scored; `first-order` estimates it from one gradient "
        "(`ffa`, `alternating`, `fedit`).",
    )
    score_bound: Nats = Field(1.0, description="Largest score of an update in a round, in nats.")
    score_tolerance: NonNegativeFloat = Field(
        0.001,
        le=1000,
        description="How far, in nats, another processor's score may lie from an attestor's own. "
        "As much is taken off every gain: what is smaller is rounding, and earns nothing.",
    )
    reward_per_round: int = Field(
        1_000_000,
        ge=0,
        lt=2**53,
        description="What a round pays at most, in gwei; 1,000,000 are 0.001 ether.",
    )
    reward_constant: Nats = Field(
        0.01,
        description="Nats added to a round's total score before the reward is divided by it: in a "
        "round that gained as much in all, half of it stays unpaid.",
    )

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
            raise SettingsError(one_line(error)) from None

    def to_run_config(self) -> dict[str, Any]:
        """Return the settings under their kebab-case keys."""
        return self.model_dump(by_alias=True)

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
    def _they_go_together(self) -> Self:
        check_settings(self)
        return self

    @property
    def kept_rounds(self) -> Lineage:
        """The rounds of earlier tasks that the run goes on from."""
        return Lineage.parse(self.lineage)

    @property
    def own_rounds(self) -> int:
        """How many rounds the run makes itself."""
        return self.rounds - self.kept_rounds.after

    def logical_round(self, round_number: int) -> int:
        """Return the number that a round of the run has in its lineage."""
        return self.kept_rounds.after + round_number

    @property
    def request_ids(self) -> list[bytes]:
        """Ids of the requests that the run carries out, 32 bytes each."""
        return [bytes.fromhex(part.removeprefix("0x")) for part in self.requests.split(",") if part]

    @property
    def first_rounds(self) -> FirstRounds:
        """What the run's own first rounds are for, where it keeps all of another's."""
        names = [name.strip() for name in self.unlearners.split(",") if name.strip()]
        leaving = self.isolation and bool(self.leavers)
        return FirstRounds(tuple(names), self.recovery_after(bool(self.leavers)), leaving)

    def recovery_after(self, left: bool) -> int:
        """Return how many rounds of recovery follow, where somebody left and where nobody did."""
        return self.recovery_rounds if left else self.record_recovery_rounds

    @property
    def leaver_names(self) -> list[str]:
        """Without whose isolated adapters, or own terms, the run goes on."""
        return [name.strip() for name in self.leavers.split(",") if name.strip()]

    @property
    def organization_names(self) -> list[str]:
        """Who takes part, in the order given."""
        return [name.strip() for name in self.organizations.split(",") if name.strip()]

    @property
    def attestor_names(self) -> list[str]:
        """Who attests, in the order given."""
        named = [name.strip() for name in self.attestors.split(",") if name.strip()]
        return named or self.organization_names[:2]

    def rank_of(self, organization: str) -> int:
        """Return the rank an organization trains at full effort."""
        return self.ranks_given.get(organization, self.rank)

    @property
    def ranks_given(self) -> dict[str, int]:
        """The ranks of single organizations."""
        return whole_numbers("ranks", self.ranks, at_most=1024)

    @property
    def effort(self) -> Effort:
        """What efforts an organization can choose from."""
        return Effort(self.effort_by, percents(self.effort_levels))

    def token_price_of(self, organization: str) -> int:
        """Return what a token costs an organization, in gwei."""
        return self.token_prices_given.get(organization, self.token_price)

    @property
    def token_prices_given(self) -> dict[str, int]:
        """The prices of single organizations, in gwei a token."""
        return whole_numbers("token-prices", self.token_prices, at_most=2**53 - 1)

    @property
    def home_path(self) -> Path:
        """Folder of everything a run writes."""
        return foedus_home(self.home)

    @property
    def label_words(self) -> dict[str, str]:
        """The rows' label values, and the words the model answers."""
        return pairs("data-labels", self.data_labels, alone_is_both=True)

    @property
    def data_field_names(self) -> dict[str, str]:
        """The fields of a row that bear another name."""
        return pairs("data-fields", self.data_fields)
