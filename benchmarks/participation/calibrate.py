"""Fits the environment to logs of real federated runs.

    python -m benchmarks.participation.calibrate LOG.json... [--output FILE]

A log holds ``{"runs": [{"rounds": [{"round", "loss_before", "loss_after", "organizations":
{name: {"effort_percent", "tokens", "score_micro_nats"}}}]}]}``: as
:mod:`benchmarks.participation_on_models` writes it. ``docs/results/contributions.json`` is read as
well: a run of two rounds, everybody at full effort.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares
from scipy.stats import norm

from benchmarks.participation.federation import UNIT_RECORDS
from benchmarks.participation.response import CALIBRATION, Noise, Response
from benchmarks.participation.scoring import expected_gains
from benchmarks.provenance import provenance

#: Nats taken off each gain before it is a score (``score-tolerance``).
TOLERANCE: Final = 0.001
#: Nats below which gains are rounding (``docs/rewards.md``): half the tolerance.
NOISE_FLOOR: Final = 0.0005
#: Largest share of the loss that luck is taken to be.
MOST_NOISE: Final = 10.0
#: What counts as a deviation of one: of a loss, as a share; of a score, as a share of the round's
#: largest, plus nats.
LOSS_DEVIATION, SCORE_SHARE, SCORE_DEVIATION = 0.1, 0.3, 0.002
#: Standard deviation of the logarithm of usefulness that is expected before any log is read.
USEFULNESS_PRIOR: Final = 0.7
#: And of the power by which a share of the records counts, about 1.
POWER_PRIOR: Final = 1.0
#: Parameters of a fit beside the organizations' usefulness.
_FREE: Final = 5
#: Tokens a record where a log has none: the demo's pooled mean is 31 (``docs/results/demo.json``).
TOKENS: Final = (20, 45)

Run = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=CALIBRATION, help="where the JSON goes")
    options = parser.parse_args()
    runs = [run for log in options.logs for run in read_runs(json.loads(log.read_text()))]
    names = " ".join(str(log) for log in options.logs)
    command = f"python -m benchmarks.participation.calibrate {names}"
    document = {
        **provenance(command, "numpy", "scipy"),
        "fitted_on": names.split(),
        **_rounded(calibrate(runs)),
    }
    options.output.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(json.dumps(document, indent=2, sort_keys=True))


def _rounded(value: Any) -> Any:
    """Return it with six digits: what the fit of another processor would share."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read_runs(document: dict[str, Any]) -> list[Run]:
    """Return each run's rounds, of either kind of file."""
    if "runs" in document:
        return [[_read_round(scored) for scored in run["rounds"]] for run in document["runs"]]
    rounds = []
    for scored in document["rounds"]:
        organizations = {
            name: {"effort": 100, "score": score} for name, score in scored["leave_one_out"].items()
        }
        rounds.append({**scored, "organizations": organizations})
    return [rounds]


def _read_round(scored: dict[str, Any]) -> dict[str, Any]:
    organizations = {
        name: {
            "effort": report["effort_percent"],
            "tokens": report["tokens"],
            "score": report["score_micro_nats"],
        }
        for name, report in scored["organizations"].items()
    }
    return {**scored, "organizations": organizations}


def calibrate(runs: list[Run]) -> dict[str, Any]:
    """Fit both forms, and return the one that leaves less."""
    fits = [_fit(runs, form) for form in ("exponential", "power")]
    best = min(fits, key=lambda fit: fit["cost"])
    return {**best, "other_form": {key: max(fits, key=_cost)[key] for key in ("response", "cost")}}


def _cost(fit: dict[str, Any]) -> float:
    cost: float = fit["cost"]
    return cost


def _fit(runs: list[Run], form: Literal["exponential", "power"]) -> dict[str, Any]:
    names = sorted({name for run in runs for scored in run for name in scored["organizations"]})
    initial = float(np.mean([run[0]["loss_before"] for run in runs]))
    smallest = min(scored["loss_after"] for run in runs for scored in run)

    def unpack(free: NDArray[np.float64]) -> tuple[Response, dict[str, float], float]:
        floor, scale, shape, redundancy, power = free[:_FREE]
        largest = np.exp(shape) if form == "power" else min(1.0, np.exp(shape))
        response = Response(
            form,
            initial,
            smallest * float(floor),
            float(np.exp(scale)),
            float(largest),
            float(redundancy),
        )
        # The mean is 1, so that the scale has one meaning.
        useful = np.exp(free[_FREE:])
        return response, dict(zip(names, useful / useful.mean(), strict=True)), float(power)

    def residuals(free: NDArray[np.float64]) -> NDArray[np.float64]:
        found = []
        for predicted, scored in _predicted(runs, *unpack(free)):
            found.append(np.log(predicted["loss"] / scored["loss_after"]) / LOSS_DEVIATION)
            measured = scored["organizations"]
            largest = max(report["score"] for report in measured.values()) / 1e6
            deviation = SCORE_DEVIATION + SCORE_SHARE * largest
            found.extend(
                (max(0.0, gain - TOLERANCE) - measured[name]["score"] / 1e6) / deviation
                for name, gain in predicted["gains"].items()
            )
        power = (free[_FREE - 1] - 1.0) / POWER_PRIOR
        return np.array([*found, power, *(free[_FREE:] / USEFULNESS_PRIOR)])

    low = [0.0, -12.0, -4.0, 0.05, 0.5, *(-3.0 for _ in names)]
    high = [0.95, 6.0, 0.0 if form == "exponential" else 3.0, 1.0, 4.0, *(3.0 for _ in names)]
    solutions = [
        least_squares(residuals, [0.5, scale, shape, 0.7, 1.0, *(0.0 for _ in names)],
                      bounds=(low, high))
        for scale in (-4.0, 0.0)
        for shape in (-1.5, -0.3)
    ]  # fmt: skip
    best = min(solutions, key=lambda solution: float(solution.cost))
    response, useful, power = unpack(best.x)
    return {
        "response": asdict(response),
        "usefulness": useful,
        "usefulness_spread": float(np.std(np.log(list(useful.values())))),
        "share_power": power,
        "noise": {"share": _noise_share(runs, response, useful, power), "floor": NOISE_FLOOR},
        "tokens": _tokens(runs),
        "cost": float(best.cost),
        "residuals": _residuals(runs, response, useful, power),
        "runs": len(runs),
        "rounds": sum(len(run) for run in runs),
    }


def _predicted(
    runs: list[Run], response: Response, useful: dict[str, float], power: float
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what is expected of each round, beside what was seen."""
    found = []
    for run in runs:
        progress = 0.0
        for scored in run:
            joined = {
                name: useful[name] * (report["effort"] / 100) ** power
                for name, report in scored["organizations"].items()
                if report["effort"] > 0
            }
            gains = expected_gains(list(joined.values()), progress, response)
            progress += float(response.progress(sum(joined.values())))
            loss = float(response.loss(progress))
            predicted = {
                "loss": loss,
                "gains": dict(zip(joined, map(float, gains), strict=True)),
                "efforts": joined,
            }
            found.append((predicted, scored))
    return found


def _noise_share(
    runs: list[Run], response: Response, useful: dict[str, float], power: float
) -> float:
    """Return the share at which as much is scored in all as was measured.

    A score is ``max(0, N(mean, deviation))``, of which ``mean Phi(mean / deviation) + deviation
    phi(mean / deviation)`` is expected.
    """
    rounds = [
        (predicted, sum(r["score"] for r in scored["organizations"].values()) / 1e6)
        for predicted, scored in _predicted(runs, response, useful, power)
        if predicted["gains"]
    ]
    measured = sum(total for _, total in rounds)

    def surplus(share: float) -> float:
        expected = 0.0
        for predicted, _ in rounds:
            means = np.array(list(predicted["gains"].values())) - TOLERANCE
            efforts = np.array(list(predicted["efforts"].values()))
            deviation = Noise(share, NOISE_FLOOR).deviation(efforts, predicted["loss"])
            z = means / deviation
            expected += float((means * norm.cdf(z) + deviation * norm.pdf(z)).sum())
        return expected - measured

    if surplus(0.0) >= 0.0:
        return 0.0
    return float(brentq(surplus, 0.0, MOST_NOISE)) if surplus(MOST_NOISE) > 0.0 else MOST_NOISE


def _residuals(
    runs: list[Run], response: Response, useful: dict[str, float], power: float
) -> list[dict[str, Any]]:
    return [
        {
            "round": scored["round"],
            "loss": scored["loss_after"],
            "expected_loss": predicted["loss"],
            "scores": {name: r["score"] for name, r in scored["organizations"].items()},
            "expected_gains": {name: round(g * 1e6) for name, g in predicted["gains"].items()},
        }
        for predicted, scored in _predicted(runs, response, useful, power)
    ]


def _tokens(runs: list[Run]) -> list[int]:
    """Return the fewest and most tokens a record, of :data:`UNIT_RECORDS` at full effort."""
    seen = [
        report["tokens"] / (UNIT_RECORDS * report["effort"] / 100)
        for run in runs
        for scored in run
        for report in scored["organizations"].values()
        if report.get("tokens") and report["effort"]
    ]
    return [int(min(seen)), int(-(-max(seen) // 1))] if seen else list(TOKENS)


if __name__ == "__main__":
    main()
