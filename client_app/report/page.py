"""The HTML of a report: a template, and plots drawn of what it says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from client_app.report.ledger_contents import LedgerContents
from client_app.report.plots import bars, lines
from client_app.report.request_contents import Figure, RequestLine
from client_app.report.run_contents import RunContents, earned_by_round
from strategies.audit_check import Check

#: Templates escape whatever is put into them: names, domains and reasons are strangers' words.
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

Heights = dict[str, dict[str, float]]


def run_page(contents: RunContents, made_at: int) -> str:
    """Return the coordinator's page about a run.

    Parameters
    ----------
    contents : RunContents
        What it says.
    made_at : int
        Seconds since the epoch, stated on the page.
    """
    rounds = {str(line.number): line for line in contents.rounds}
    plots = {
        "accuracy": lines(
            contents.received["accuracy"],
            title="Accuracy of the adapter that each organization received, by rounds behind it",
            x_label="rounds",
            y_label="accuracy, own hold-out rows",
        ),
        "loss": lines(
            contents.received["loss"],
            title="Loss of the adapter that each organization received, by rounds behind it",
            x_label="rounds",
            y_label="loss, nats a token",
        ),
        "scores": bars(
            {number: dict(line.scores) for number, line in rounds.items() if line.scores},
            title="Contribution of each organization's update to every round",
            x_label="round",
            y_label="contribution, nats",
        ),
        "earned": bars(
            earned_by_round(contents),
            title="Reward of each organization in every round",
            x_label="round",
            y_label="earned, thousand gwei",
            stacked=True,
        ),
        "gas": bars(
            {number: {k: float(v) for k, v in line.gas.items()} for number, line in rounds.items()},
            title="Gas of every round's transactions",
            x_label="round",
            y_label="gas",
            stacked=True,
        ),
        "seconds": bars(
            _seconds(contents),
            title="Seconds of every round",
            x_label="round",
            y_label="seconds",
            stacked=True,
        ),
    }
    return _rendered(
        "run.html.jinja2",
        title=f"Foedus: run {contents.name}",
        contents=contents,
        plots=plots,
        audit=_audit(contents.checks),
        forgetting=[(line, request_plots(line)) for line in contents.requests],
        verdicts=_verdicts(contents),
        made_at=made_at,
    )


def ledger_page(contents: LedgerContents, made_at: int) -> str:
    """Return an organization's page about its own ledger.

    Parameters
    ----------
    contents : LedgerContents
        What it says.
    made_at : int
        Seconds since the epoch, stated on the page.
    """
    runs = list(dict.fromkeys(one.run for one in contents.trained))
    plots = {
        "loss": lines(
            {
                run: [
                    (one.round, one.last_loss)
                    for one in contents.trained
                    if one.run == run and one.tokens
                ]
                for run in runs
            },
            title="Loss of the last step of each round's training",
            x_label="round",
            y_label="loss, nats a token",
        ),
        "actions": bars(
            {"decisions": _counted([line["action"] for line in contents.decisions])},
            title="How often the agent chose each effort",
            y_label="decisions",
        ),
    }
    return _rendered(
        "ledger.html.jinja2",
        title=f"Foedus: private ledger of {contents.organization}",
        contents=contents,
        plots=plots,
        forgetting=[
            (own, line, request_plots(line) if line else []) for own, line in contents.requests
        ],
        made_at=made_at,
    )


def request_plots(line: RequestLine) -> list[Markup]:
    """Draw what a receipt measured before and after; of an exact one that is as retrained.

    On everybody's test rows, and, where it was unlearned by training, on the forgotten records
    beside rows never trained on, and by attacks that tell the two apart.
    """
    of_all = [figure for figure in line.figures if "-" not in figure.name]
    plots = [
        _before_and_after(
            line,
            {figure.organization: figure for figure in of_all if figure.name == name},
            f"{name}, test rows",
        )
        for name in ("accuracy", "loss")
    ]
    own = {figure.name: figure for figure in line.figures if figure not in of_all}
    losses = {"forgotten": own.get("forget-loss"), "hold-out": own.get("hold-out-loss")}
    plots.append(_before_and_after(line, losses, "loss, nats a token"))
    attacks = {
        name.removeprefix("membership-"): figure
        for name, figure in own.items()
        if name.startswith("membership-") and not name.endswith("-error")
    }
    plots.append(_before_and_after(line, attacks, "membership attacks, AUC"))
    return [plot for plot in plots if plot]


def _before_and_after(
    line: RequestLine, figures: Mapping[str, Figure | None], label: str
) -> Markup:
    after = "after, as retrained" if line.exact else "after"
    groups: Heights = {
        name: {
            when: value
            for when, value in (("before", figure.before), (after, figure.after))
            if value is not None
        }
        for name, figure in figures.items()
        if figure is not None
    }
    return bars(groups, title=f"{label}, before and after", y_label=label)


def _seconds(contents: RunContents) -> Heights:
    return {
        str(line.number): {
            name: value
            for name, value in (
                ("waited for replies", line.waited_seconds),
                ("chain", line.chain_seconds),
            )
            if value is not None
        }
        for line in contents.rounds
    }


def _counted(words: Sequence[str]) -> dict[str, float]:
    return {word: float(count) for word, count in sorted(Counter(words).items())}


def _audit(checks: Sequence[Check]) -> list[tuple[str, list[Check], int]]:
    """Group checks by round, the run's own first; say how many of each fail."""
    found = []
    for number, group in groupby(sorted(checks, key=lambda c: c.round), key=lambda c: c.round):
        of_round = list(group)
        failing = sum(not check.holds for check in of_round)
        found.append((f"round {number}" if number else "the run", of_round, failing))
    return found


def _verdicts(contents: RunContents) -> dict[str, int]:
    """Count what became of replies that were not simply accepted."""
    words = [
        word
        for line in contents.rounds
        for word in line.verdicts.values()
        if word not in ("accepted", "declined")
    ]
    return dict(sorted(Counter(words).items()))


def _rendered(template: str, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values, version=version("foedus"))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _number(value: float | None, form: str = ",") -> str:
    return "" if value is None else format(value, form)


_TEMPLATES.filters |= {"time": _time, "number": _number, "short": lambda text: f"{text[:10]}…"}
