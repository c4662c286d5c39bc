"""The result of a run: ``summary.json``."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from server_app.closing import Closing
from server_app.forgotten_figures import forgetting_summary
from strategies.rewards import WEI_PER_GWEI
from strategies.round_outcome import RoundOutcome
from strategies.round_participation import rounds_of
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings


def summarize(
    *,
    settings: RunSettings,
    archive: RunArchive,
    closings: Mapping[str, Closing],
    contracts: Mapping[str, str],
    opening_gas_used: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the summary of a finished run.

    ``seconds.train``, ``evaluate`` and ``ledger`` add up what each organization spent: on separate
    machines they run side by side. A run that was stopped and resumed is summarized as a whole.
    What an organization did in each round, and the tokens it processed, are what it reported.

    Parameters
    ----------
    settings : RunSettings
        The run's settings.
    archive : RunArchive
        Its folder, with every round in it.
    closings : mapping of str to Closing
        What each organization answered to the closing message.
    contracts : mapping of str to str
        Address by contract.
    opening_gas_used : int
        Gas that opening the task used; what the rounds used stands in their seals.
    seconds : mapping of str to float
        ``setup``, ``attest`` and ``total`` of all attempts, ``chain`` outside the rounds.
    """
    last = archive.last_prepared_round() or 0
    attested = {n: a for n in range(1, last + 1) if (a := archive.attestation(n)) and a.landed}
    end = RoundOutcome.from_manifest(archive.manifest(last))
    # A round beyond the last only seals what was earned; its adapter is the one before.
    trained = end.parent_round if last > settings.own_rounds else last
    records = [archive.record(number) for number in range(1, last + 1)]
    # One that was voided while it was open, because of a dispute before it, has no seal.
    seals = {n: archive.seal(n) for n in range(1, last + 1) if archive.is_sealed(n)}
    train, evaluate, ledger = (
        _spent(f"{name}-seconds", records, closings) for name in ("train", "evaluate", "ledger")
    )
    rounds = rounds_of(
        settings, archive, sorted(closings), range(1, min(last, settings.own_rounds) + 1)
    )
    tokens = {name: sum(entry["tokens"] for entry in rounds[name]) for name in rounds}
    organizations = {
        name: {
            "domain": closing.domain,
            "rows": int(closing.metrics.get("rows", 0)),
            "test_rows": int(closing.metrics.get("test-rows", 0)),
            "base_accuracy": closing.metrics.get("base-accuracy"),
            "accuracy": closing.metrics.get("final-accuracy"),
            "reward_gwei": end.rewards.amounts.get(name, 0) // WEI_PER_GWEI,
            "base_loss": closing.metrics.get("base-loss"),
            "loss": closing.metrics.get("final-loss"),
            "rounds": rounds[name],
            "tokens": tokens[name],
            "spent_gwei": tokens[name] * settings.token_price_of(name),
        }
        for name, closing in sorted(closings.items())
    }
    return {
        "run": archive.name,
        "model": settings.model,
        "quantization": settings.quantization,
        "strategy": settings.aggregation,
        "rounds": trained,
        "organizations": organizations,
        **(
            {"forgetting": forgetting_summary(settings, archive, closings)}
            if settings.unlearners
            else {}
        ),
        "mean_base_accuracy": _mean(organizations, "base_accuracy"),
        "mean_accuracy": _mean(organizations, "accuracy"),
        "general_text_loss": _general_text(closings),
        "adapter": str(archive.adapter_folder(trained)),
        "log": str(archive.folder / "run.log"),
        "chain": {
            "contracts": dict(contracts),
            "seals": [
                {
                    "round": number,
                    "transaction": f"0x{seal['transaction']}",
                    "block": seal["block"],
                    "gas_used": seal["gas_used"],
                }
                for number, seal in seals.items()
            ],
            "attested": sorted(attested),
            "gas_used": opening_gas_used
            + sum(seal["opening_gas_used"] + seal["gas_used"] for seal in seals.values())
            + sum(attestation.gas_used for attestation in attested.values()),
        },
        "seconds": {
            "setup": seconds["setup"],
            "train": train,
            "evaluate": evaluate,
            "ledger": ledger,
            "attest": seconds["attest"],
            "chain": seconds["chain"]
            + sum(seal["seconds"] for seal in seals.values())
            + sum(attestation.seconds for attestation in attested.values()),
            "total": seconds["total"],
        },
    }


def _spent(what: str, records: list[dict[str, Any]], closings: Mapping[str, Closing]) -> float:
    """Add up a figure over all organizations, rounds and closings."""
    rounds = [metrics for record in records for metrics in record["metrics"].values()]
    of_rounds = sum(float(metrics.get(what, 0.0)) for metrics in rounds)
    return of_rounds + sum(closing.metrics.get(what, 0.0) for closing in closings.values())


def _mean(organizations: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    values = [entry[key] for entry in organizations.values() if entry[key] is not None]
    return fmean(values) if values else None


def _general_text(closings: Mapping[str, Closing]) -> dict[str, float] | None:
    for closing in closings.values():
        metrics = closing.metrics
        if "base-general-loss" in metrics and "final-general-loss" in metrics:
            return {"base": metrics["base-general-loss"], "adapter": metrics["final-general-loss"]}
    return None
