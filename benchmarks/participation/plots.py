"""The study's figure."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

#: Policies drawn, and their colours.
DRAWN = {
    "learned": "tab:blue",
    "always high": "tab:red",
    "always low": "tab:orange",
    "threshold": "tab:green",
    "myopic": "tab:purple",
    "bandit": "tab:gray",
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw welfare over the optimum by pool, and utility against the best fixed action."""
    settings = list(result["settings"].values())
    names = list(dict.fromkeys(one["setting"] for one in settings))
    figure, axes = plt.subplots(2, len(names), figsize=(3.6 * len(names), 6.4), sharey="row")
    for column, name in enumerate(names):
        ones = [one for one in settings if one["setting"] == name]
        pools = [one["pool"] for one in ones]
        above, below = axes[0][column], axes[1][column]
        for policy, colour in DRAWN.items():
            ratios = [one["policies"][policy]["welfare_over_optimum"] for one in ones]
            low = [r["mean"] - r["low"] for r in ratios]
            high = [r["high"] - r["mean"] for r in ratios]
            above.errorbar(
                pools, [r["mean"] for r in ratios], [low, high], label=policy, color=colour,
                marker="o", markersize=3, capsize=2,
            )  # fmt: skip
            utilities = [one["policies"][policy]["utility"] for one in ones]
            below.plot(pools, utilities, color=colour, marker="o", markersize=3)
        if ones[0]["equilibrium_over_optimum"]:
            selfish = [one["equilibrium_over_optimum"]["mean"] for one in ones]
            above.plot(pools, selfish, "k--", label="equilibrium")
        above.axhline(0.9, color="black", linewidth=0.5)
        below.axhline(0.0, color="black", linewidth=0.5)
        above.set_title(name, fontsize=9)
        for axis in (above, below):
            axis.set_xscale("log", base=2)
        below.set_xlabel("pool / cost of everybody's full effort")
    axes[0][0].set_ylabel("welfare / optimum (R = 2)")
    axes[1][0].set_ylabel("mean net utility\n(own full effort over the task)")
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
