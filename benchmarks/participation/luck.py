"""How much of the welfare that agents miss is luck that was paid for.

    python -m benchmarks.participation.luck [--seeds 20] [--processes 1]

In late rounds the public loss hardly falls any more, and what is shared then is the noise of its
measurement. The constant in a reward's denominator leaves a part of the pool unpaid where a round
gained little: the larger it is, the less luck earns. Here nothing else is changed.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.participation.learn_tables import DECISIONS, TABLES, learn, read_tables
from benchmarks.participation.study import POOLS, SCARCE, Effort, Setting, run_seed, summary
from benchmarks.provenance import RESULTS, provenance

OUTPUT: Final = RESULTS / "participation_luck.json"
#: Micro-nats; the first is what runs have by default.
CONSTANTS: Final = (10_000, 30_000, 100_000, 300_000)
SIZE: Final = 8
_SHOWN: Final = ("learned", "learning", "myopic", "best fixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    started = time.perf_counter()
    settings = [
        Setting(f"{SIZE}, constant {constant / 1e6:g} nats", SIZE, plain=False, constant=constant)
        for constant in CONSTANTS
    ]
    one = partial(
        run_seed,
        tables=read_tables(TABLES),
        bandit=learn(DECISIONS // 5, discount=0.0),
        effort=Effort(30, 2),
        settings=settings,
        pools=[pool for pool in POOLS if pool <= SCARCE],
    )
    with ProcessPoolExecutor(options.processes) as pool:
        by_seed = list(pool.map(one, range(options.seeds)))
    result = {
        **provenance("python -m benchmarks.participation.luck", "numpy", "scipy", "pettingzoo"),
        "seeds": options.seeds,
        "settings": {key: summary([found[key] for found in by_seed]) for key in by_seed[0]},
        "seconds": time.perf_counter() - started,
    }
    options.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    table = Table("setting", *_SHOWN, "pool used", title="welfare over the optimum")
    for key, found in result["settings"].items():
        policies = found["policies"]
        shares = [policies[name]["welfare_over_optimum"] for name in _SHOWN]
        table.add_row(
            key,
            *(f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in shares),
            f"{policies['learned']['pool_used']:.2f}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
