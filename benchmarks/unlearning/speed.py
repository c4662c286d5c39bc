"""What unlearning costs beside retraining, and what the deeper attacks found, as tables."""

from collections.abc import Mapping
from dataclasses import fields
from statistics import fmean
from typing import Any

from benchmarks.sheets import MISSING, Sheet
from benchmarks.unlearning.cost import Cost
from benchmarks.unlearning.groups import Group, mean_and_error
from benchmarks.unlearning.requests import REQUESTS

_HEADER = (
    "tokens trained",
    "tokens read",
    "retraining / this, tokens",
    "retraining / this, seconds",
    "seconds",
    "MB travelled",
    "MB stored",
)


def speed_sheet(group: Group) -> Sheet:
    """Lay out the cost of every kind of model, and how often it goes into retraining."""
    rows = []
    for kind in group.kinds:
        if kind == "exact":
            rows.append(_counted(group))
        cells = group.cells(kind)
        if not cells:
            rows.append([kind, "0", *[MISSING] * len(_HEADER)])
            continue
        rows.append([kind, str(len(cells)), *_figures(group, kind)])
    note = (
        "n: models; means over them. Ratios over the subjects of which both were measured; a token "
        "read forwards counts as much there as one trained on. Seconds include no measuring."
    )
    if group.case == "sequence":
        note += f" Retraining once, for all {REQUESTS} requests: after each it would cost as often."
    return Sheet(f"Cost: {group.title}", ["model", "n", *_HEADER], rows, note)


def _figures(group: Group, kind: str) -> list[str]:
    costs = [Cost(**cell["cost"]) for cell in group.cells(kind)]
    mean = {one.name: fmean(getattr(cost, one.name) for cost in costs) for one in fields(Cost)}
    return [
        f"{mean['trained_tokens']:,.0f}",
        f"{mean['read_tokens']:,.0f}",
        _ratio(group, kind, "tokens"),
        _ratio(group, kind, "seconds"),
        f"{mean['seconds']:,.1f}",
        f"{mean['travelled_bytes'] / 1e6:,.1f}",
        f"{mean['stored_bytes'] / 1e6:,.1f}",
    ]


def _ratio(group: Group, kind: str, what: str) -> str:
    subjects = group.comparable(kind, "retrained")
    pairs = [
        tuple(
            float(getattr(Cost(**group.by_kind[one][subject]["cost"]), what))
            for one in ("retrained", kind)
        )
        for subject in subjects
    ]
    if not pairs:
        return MISSING
    if not all(ours for _, ours in pairs):
        return "no training"
    return f"{mean_and_error([theirs / ours for theirs, ours in pairs])} ({len(pairs)})"


def _counted(group: Group) -> list[str]:
    """Count what an exact replay trains on: the retrained model's rounds from the first affected.

    They are the same rounds, bit for bit (the cell ``exact`` and the tests say so).
    """
    kind = "exact, counted from retrained"
    cells = [cell for cell in group.cells("retrained") if "first_affected" in cell["details"]]
    if not cells:
        return [kind, "0", *[MISSING] * len(_HEADER)]
    tokens = [
        sum(r["tokens"] for r in cell["rounds"] if r["round"] >= cell["details"]["first_affected"])
        for cell in cells
    ]
    whole = [cell["cost"]["trained_tokens"] for cell in cells]
    ratios = [theirs / ours for theirs, ours in zip(whole, tokens, strict=True) if ours]
    ratio = f"{mean_and_error(ratios)} ({len(ratios)})" if ratios else "no training"
    return [kind, str(len(cells)), f"{fmean(tokens):,.0f}", "0", ratio, "", "", "", ""]


def exact_sheet(group: Group) -> Sheet:
    """Say whether replays ended at the retrained models' bits."""
    cells = group.cells("exact")
    rows = [
        [
            "/".join((str(cell["seed"]), cell["organization"], str(cell["set"]))),
            str(cell["details"]["first_affected"]),
            "yes" if cell["details"]["same_as_retrained"] else "NO",
            f"{cell['cost']['trained_tokens']:,}",
        ]
        for cell in cells
    ]
    header = ["seed/organization/set", "first affected round", "same bits", "tokens trained"]
    return Sheet(f"Exact replay: {group.title}", header, rows, f"n: {len(cells)} models.")


def deep_sheet(group: Group) -> Sheet:
    """Lay out relearning, quantization and resurfacing of the models that were attacked so."""
    rows = [
        [
            f"{kind} {cell['seed']}/{cell['organization']}/{cell['set']}",
            _advantage(cell["deep"]),
            _quantized(cell["deep"]),
            _resurfacing(cell["deep"]),
        ]
        for kind in group.kinds
        for cell in group.cells(kind)
        if "deep" in cell
    ]
    return Sheet(
        f"Deeper attacks: {group.title}",
        ["model", "relearning advantage, nats", "forget loss, quantized", "loss (AUC) by round"],
        rows,
        f"n: {len(rows)} models, one a row. Advantage by optimizer steps: how much further than "
        "the retrained model's the loss fell; above 0 it remembers.",
    )


def _advantage(deep: Mapping[str, Any]) -> str:
    if "relearning" not in deep:
        return ""
    found = deep["relearning"]
    steps = zip(found["steps"], found["advantage"], strict=True)
    return ", ".join(f"{step}: {gain:+.3f}" for step, gain in steps) + f" (n {found['n']})"


def _quantized(deep: Mapping[str, Any]) -> str:
    forms = deep["quantized"].items()
    return ", ".join(f"{form}: {found['forget/loss']['value']:.3f}" for form, found in forms)


def _resurfacing(deep: Mapping[str, Any]) -> str:
    rounds = deep.get("resurfacing", [])
    return ", ".join(f"{r['round']}: {r['loss']:.3f} ({r['membership']:.3f})" for r in rounds)
