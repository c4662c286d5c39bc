"""Which settings go together: one ValueError, one line, for the first that do not."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from blockchain.chain_settings import DEVELOPMENT_CHAIN_ID, ChainSettings
from strategies.aggregation import check_combination
from strategies.handed_out import HandedOut
from strategies.setting_values import EMBEDDED_DATA, HUB_DATA, NO_VALIDATION

if TYPE_CHECKING:
    from strategies.settings import RunSettings

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REQUESTS: Final = re.compile(r"(0x[0-9a-f]{64}(,0x[0-9a-f]{64})*)?")

#: The fields of a row, by its form.
_FIELDS: Final = {
    "text-label": {"text", "label", "id", "group"},
    "prompt-completion": {"prompt", "completion", "id", "group"},
    "chat": {"messages", "id", "group"},
}


def check_settings(settings: "RunSettings") -> None:
    """Make sure that a run's settings go together.

    Raises
    ------
    ValueError
        For the first that do not.
    """
    _organizations_fit(settings)
    _aggregation_fits(settings)
    _the_rest_fits(settings)
    _data_fits(settings)
    _scores_fit(settings)
    _effort_fits(settings)
    _lineage_fits(settings)
    _unlearning_fits(settings)


def _organizations_fit(settings: "RunSettings") -> None:
    names = settings.organization_names
    if not names:
        raise ValueError("organizations: none named, expected at least one")
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"organizations: {name!r}, expected lower-case letters, digits, '-' and '_'"
            )
    if len(set(names)) != len(names):
        raise ValueError("organizations: a name stands twice")
    if settings.min_organizations > len(names):
        raise ValueError(
            f"min-organizations is {settings.min_organizations}, but only {len(names)} take part"
        )
    for attestor in settings.attestor_names:
        if attestor not in names:
            raise ValueError(f"attestors: {attestor!r} is not among the organizations")
    if len(set(settings.attestor_names)) != len(settings.attestor_names):
        raise ValueError("attestors: a name stands twice")
    for organization, rank in settings.ranks_given.items():
        if organization not in names:
            raise ValueError(f"ranks: {organization!r} is not among the organizations")
        if not 1 <= rank <= settings.rank:
            raise ValueError(
                f"ranks: {organization}={rank}, expected 1 to the run's rank {settings.rank}"
            )


def _aggregation_fits(settings: "RunSettings") -> None:
    check_combination(settings.aggregation, settings.robust)
    names, needed = settings.organization_names, 1
    if settings.robust == "multi-krum":
        needed = 2 * settings.byzantine + 3
    elif settings.robust == "trimmed-mean":
        needed = 2 * settings.byzantine + 1
    if settings.isolation and (settings.aggregation, settings.robust) != ("ffa", "none"):
        raise ValueError(
            "isolation: expected aggregation 'ffa' and robust 'none', the run has "
            f"{settings.aggregation!r} and {settings.robust!r}"
        )
    if len(names) < needed:
        raise ValueError(
            f"{settings.robust} with byzantine={settings.byzantine} needs at least {needed} "
            f"organizations, {len(names)} take part"
        )


def _the_rest_fits(settings: "RunSettings") -> None:
    if settings.batch_size % settings.micro_batch_size:
        raise ValueError(
            f"batch-size {settings.batch_size} is no multiple of "
            f"micro-batch-size {settings.micro_batch_size}"
        )
    if settings.chain_url == "managed" and settings.chain_id != DEVELOPMENT_CHAIN_ID:
        raise ValueError(
            f"chain-id {settings.chain_id}: the managed node has {DEVELOPMENT_CHAIN_ID}; "
            "give chain-url as well"
        )
    if settings.chain_url != "managed":
        try:
            ChainSettings.model_validate({"rpc_url": settings.chain_url})
        except ValidationError:
            # The address may hold a password: it is not repeated.
            raise ValueError("chain-url: expected 'managed' or an http(s) URL") from None


def _data_fits(settings: "RunSettings") -> None:
    kind, _, name = settings.data.partition(":")
    if kind not in (EMBEDDED_DATA, HUB_DATA) and not Path(settings.data).is_absolute():
        # The application runs wherever the SuperLink or SuperNode was started.
        raise ValueError(
            f"data: {settings.data!r}, expected {EMBEDDED_DATA!r}, 'hub:NAME' or an absolute path"
        )
    if kind == HUB_DATA and not name:
        raise ValueError(f"data: {settings.data!r}, expected 'hub:NAME'")
    # Organizations on machines of their own have one each, wherever it lies there.
    several = (
        settings.data == EMBEDDED_DATA or "{organization}" in settings.data or bool(settings.bundle)
    )
    if settings.partition != "none" and several:
        raise ValueError(
            f"partition {settings.partition!r} splits one data set, but data {settings.data!r} "
            "names one for each organization"
        )
    if settings.partition == "none" and not several and len(settings.organization_names) > 1:
        raise ValueError(
            f"data {settings.data!r} is one data set for {len(settings.organization_names)} "
            "organizations: set partition, or let '{organization}' stand in the path"
        )
    if settings.data_template.count("{text}") != 1:
        raise ValueError(
            f"data-template: {settings.data_template!r}, expected '{{text}}' in it once"
        )
    if len(set(settings.label_words.values())) < 2:
        raise ValueError(f"data-labels: {settings.data_labels!r}, expected two words or more")
    unknown = settings.data_field_names.keys() - _FIELDS[settings.data_form]
    if unknown:
        raise ValueError(
            f"data-fields: {sorted(unknown)[0]!r}, expected some of "
            f"{', '.join(sorted(_FIELDS[settings.data_form]))} for {settings.data_form}"
        )


def _scores_fit(settings: "RunSettings") -> None:
    where = settings.public_validation
    named = where in (EMBEDDED_DATA, NO_VALIDATION) or HandedOut.of(where) is not None
    if not named and not Path(where).is_absolute():
        raise ValueError(
            f"public-validation: {where!r}, expected {EMBEDDED_DATA!r}, {NO_VALIDATION!r} or "
            "an absolute path"
        )
    if settings.score_method == "first-order" and settings.aggregation in ("flora", "accumulators"):
        raise ValueError(
            "score-method 'first-order' does not go with aggregation "
            f"{settings.aggregation!r}, whose adapter changes its shape: choose 'leave-one-out'"
        )


def _effort_fits(settings: "RunSettings") -> None:
    try:
        settings.effort  # noqa: B018 - parsing is the check
    except ValueError as error:
        raise ValueError(f"effort-levels: {error}") from None
    for organization, price in settings.token_prices_given.items():
        if organization not in settings.organization_names:
            raise ValueError(f"token-prices: {organization!r} is not among the organizations")
        if price < 1:
            raise ValueError(f"token-prices: {organization}={price}, expected at least 1 gwei")


def _lineage_fits(settings: "RunSettings") -> None:
    kept = settings.kept_rounds
    if kept.after >= settings.rounds:
        raise ValueError(
            f"lineage: {kept.after} rounds are kept, expected fewer than the {settings.rounds}"
        )
    if not _REQUESTS.fullmatch(settings.requests):
        raise ValueError(f"requests: {settings.requests[:80]!r}, expected ids 0x..., by commas")
    if bool(settings.requests) != bool(kept.spans):
        raise ValueError("requests and lineage: expected both, or neither")


def _unlearning_fits(settings: "RunSettings") -> None:
    fast = settings.first_rounds
    if settings.leavers and not settings.requests:
        raise ValueError("leavers and requests: expected both, or no leavers")
    for name in settings.leaver_names:
        # By training, whoever leaves is there for one last round, in which it unlearns.
        if settings.isolation and name in settings.organization_names:
            raise ValueError(f"leavers: {name!r} is among the organizations")
        if not settings.isolation and name not in fast.unlearners:
            raise ValueError(f"leavers: {name!r} is not among the unlearners")
    if not fast.unlearners:
        return
    for name in fast.unlearners:
        if name not in settings.organization_names:
            raise ValueError(f"unlearners: {name!r} is not among the organizations")
    if len(set(fast.unlearners)) != len(fast.unlearners):
        raise ValueError("unlearners: a name stands twice")
    if not settings.requests:
        raise ValueError("unlearners and requests: expected both, or no unlearners")
    if problem := fast_problem(settings):
        raise ValueError(f"unlearners: {problem}")
    if settings.kept_rounds.after + fast.last > settings.rounds:
        raise ValueError(
            f"unlearners: {fast.last} rounds to unlearn and recover after the "
            f"{settings.kept_rounds.after} kept, only {settings.rounds} in all"
        )


def fast_problem(settings: "RunSettings") -> str:
    """Say why a run cannot unlearn by training; empty where it can.

    The round in which an organization unlearns is its update alone, and recovery is held against
    the change of B: both as under ``ffa`` without a robust statistic in the mean's place.
    """
    if settings.isolation:
        return "to unlearn by training takes one adapter of all, the run has isolation"
    if settings.privacy_epsilon:
        return "to unlearn by training takes the records as they are, the run has privacy-epsilon"
    if (settings.aggregation, settings.robust) == ("ffa", "none"):
        return ""
    return (
        "to unlearn by training takes aggregation 'ffa' and robust 'none', the run has "
        f"{settings.aggregation!r} and {settings.robust!r}"
    )
