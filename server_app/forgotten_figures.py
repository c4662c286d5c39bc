"""What organizations measured on data that the model was trained to forget, before and after."""

from collections.abc import Mapping
from typing import Any

from blockchain.canonical import canonical_float
from server_app.closing import Closing
from strategies.protocol import FORGOTTEN_FIGURE
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings
from unlearning.receipt import Measured


def forgetting_summary(
    settings: RunSettings, archive: RunArchive, closings: Mapping[str, Closing]
) -> dict[str, Any]:
    """Return the figures of each organization that unlearned, before it did and at the end.

    Parameters
    ----------
    settings : RunSettings
        The run's.
    archive : RunArchive
        Its folder, with every round in it.
    closings : mapping of str to Closing
        What each organization answered to the closing message.
    """
    return {
        name: {
            "before": _figures(archive.record(number)["metrics"].get(name, {})),
            "after": _figures(closings[name].metrics),
        }
        for number, name in enumerate(settings.first_rounds.unlearners, start=1)
    }


def forgotten_figures(organization: str, summary: Mapping[str, Any]) -> list[Measured]:
    """Return an organization's figures as a receipt has them.

    Parameters
    ----------
    organization : str
        Its name.
    summary : mapping
        Of `forgetting_summary`.
    """
    before, after = summary[organization]["before"], summary[organization]["after"]
    return [
        Measured(
            organization=organization,
            name=name,
            rows=int(after.get("hold-out-rows" if name.startswith("hold-out") else "rows", 0)),
            before=canonical_float(before[name]) if name in before else None,
            after=canonical_float(after[name]),
        )
        for name in sorted(after)
        if not name.endswith("rows")
    ]


def _figures(metrics: Mapping[str, float]) -> dict[str, float]:
    return {
        name.removeprefix(FORGOTTEN_FIGURE): float(value)
        for name, value in sorted(metrics.items())
        if name.startswith(FORGOTTEN_FIGURE)
    }
