"""A federation on separate machines for many rounds, with a random fault in each run.

    python -m benchmarks.federation_soak [--rounds 50] [--seed 1] [--folder FOLDER]

A coordinator and three organizations (network namespaces where those can be had) carry out runs of
five rounds on a tiny model, one fault in each: a SuperNode killed and started again, one stopped
for longer than a round waits, a machine cut off, SuperLink or ServerApp killed, the chain gone.
After each run the audit and every ledger are checked, and memory, open files and disk of what runs
on are measured. It wants the machine to itself: rounds wait a minute, and beside other work nobody
is in time. Stopped, it goes on in its folder where it was. Exits with 1 if a run does not end
right, an audit fails, or memory or open files grow.
"""

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance
from strategies.run_archive import read_json, write_json
from tests.machines import Federation, Machine, federation, join
from tests.network import Loopback, network

OUTPUT: Final = RESULTS / "federation_soak.json"
ROUNDS_A_RUN: Final = 5
DEADLINE_SECONDS: Final = 60
CHAIN_GONE_SECONDS: Final = 30
#: Of what runs on, from the first third of the runs to the last: pools and caches fill at first.
GROWTH_ALLOWED: Final = 1.15

Fault = Callable[[Federation, Machine, str, int], bool]


def killed_node(fed: Federation, who: Machine, run: str, number: int) -> bool:
    """Kill a SuperNode, with what it works on, and start it again."""
    fed.await_event(run, "round-opened", round=number)
    who.kill()
    who.json("up")
    return False


def slow_node(fed: Federation, who: Machine, run: str, number: int) -> bool:
    """Have an organization's processes stand still until its round is over."""
    fed.await_event(run, "round-opened", round=number)
    who.signal(signal.SIGSTOP)
    fed.await_event(run, "round-sealed", round=number)
    who.signal(signal.SIGCONT)
    return False


def cut_off(fed: Federation, who: Machine, run: str, number: int) -> bool:
    """Cut a machine off until its round is over."""
    fed.await_event(run, "round-opened", round=number)
    fed.net.cut(who.site)
    fed.await_event(run, "round-sealed", round=number)
    fed.net.mend(who.site)
    return False


def no_chain(fed: Federation, who: Machine, run: str, number: int) -> bool:
    """Stop the chain's node for a while."""
    fed.await_event(run, "round-opened", round=number)
    fed.coordinator.json("chain", "stop")
    time.sleep(CHAIN_GONE_SECONDS)
    fed.coordinator.json("chain", "start")
    return False


def killed_superlink(fed: Federation, who: Machine, run: str, number: int) -> bool:
    """Kill the SuperLink, with the run in it, which has to be resumed."""
    fed.await_event(run, "round-opened", round=number)
    fed.coordinator.kill()
    return True


def killed_coordinator(fed: Federation, who: Machine, run: str, number: int) -> bool:
    """Kill the ServerApp; its run has to be resumed."""
    fed.await_event(run, "update-accepted")
    fed.coordinator.kill("flwr-serverapp")
    return True


FAULTS: Final[dict[str, Fault]] = {
    "SuperNode killed": killed_node,
    "organization slower than the deadline": slow_node,
    "organization cut off": cut_off,
    "chain gone": no_chain,
    "SuperLink killed": killed_superlink,
    "ServerApp killed": killed_coordinator,
}


def main() -> int:
    """Run; return 1 if anything was lost or grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("~/.foedus/soak").expanduser())
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    console = Console(stderr=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    notes = options.folder / "soak.json"
    done: list[dict[str, Any]] = read_json(notes)["runs"] if notes.exists() else []
    if done and isinstance(network(), Loopback):
        parser.error(f"{options.folder} cannot be gone on with: {Loopback.description}")
    with federation(options.folder, **{"round-deadline": DEADLINE_SECONDS}) as fed:
        join(fed)
        while ROUNDS_A_RUN * len(done) < options.rounds:
            done.append(one_run(fed, len(done), options.seed))
            write_json(notes, {"runs": done})
            console.print(
                f"{ROUNDS_A_RUN * len(done)}/{options.rounds} rounds: {done[-1]['fault']}"
            )
    grown = growth(done)
    holds = all(value <= GROWTH_ALLOWED for value in grown.values())
    command = f"python -m benchmarks.federation_soak --rounds {options.rounds}"
    result = {
        **provenance(f"{command} --seed {options.seed}", "flwr", "torch"),
        "network": fed.net.description,
        "runs": done,
        "growth": grown,
        "holds": holds,
    }
    write_json(options.output, result)
    show(done, grown)
    return 0 if holds else 1


def one_run(fed: Federation, index: int, seed: int) -> dict[str, Any]:
    """Carry out a run with a fault; it ends right and its audit holds, or this fails."""
    drawn = random.Random(f"{seed}/{index}")  # noqa: S311 - not for secrets
    kinds = [k for k in FAULTS if k != "organization cut off" or not isinstance(fed.net, Loopback)]
    fault, number = kinds[index % len(kinds)], drawn.randint(1, ROUNDS_A_RUN)
    who = fed.organizations[drawn.choice(sorted(fed.organizations))]
    name, started = f"soak-{index:03d}", time.monotonic()
    # A soak that was stopped in a run begins it anew, under another name.
    attempt = 0
    while fed.coordinator.run_folder(f"{name}-{attempt}").exists():
        attempt += 1
    run = f"{name}-{attempt}"
    running = fed.begin(run, rounds=ROUNDS_A_RUN)
    if FAULTS[fault](fed, who, run, number):
        running.communicate(timeout=600)
        fed.coordinator.json("up")
        running = fed.begin(run, rounds=ROUNDS_A_RUN, resume=True)
    finish(running)
    fed.coordinator.json("verify")
    for organization, machine in fed.organizations.items():
        machine.json("ledger", "verify", "--org", organization)
        machine.json("agent", "verify", "--org", organization)
    return {
        "run": run,
        "fault": fault,
        "who": who.name,
        "round": number,
        "seconds": time.monotonic() - started,
        **measured(fed),
    }


def finish(running: "subprocess.Popen[str]") -> None:
    """Wait for a run's end; it has to have finished."""
    out, err = running.communicate(timeout=1800)
    if running.returncode != 0:
        raise SystemExit(f"a run did not end right: {out[-500:]}{err[-2000:]}")


def measured(fed: Federation) -> dict[str, Any]:
    """Return memory (bytes) and open files of all that runs on, and disk (bytes) of the homes."""
    memory, files = 0, 0
    homes = {str(machine.path) for machine in (fed.coordinator, *fed.organizations.values())}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != psutil.Process().pid and any(
                home in " ".join(process.cmdline()) or home == process.environ().get("FOEDUS_HOME")
                for home in homes
            ):
                memory += process.memory_full_info().uss
                files += process.num_fds()
    disk = sum(p.stat().st_size for home in homes for p in Path(home).rglob("*") if p.is_file())
    return {"memory": memory, "files": files, "disk": disk}


def growth(done: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many times more the last third of the runs has than the first.

    Of disk, what a run adds: each keeps its rounds.
    """
    third = max(1, len(done) // 3)
    added = [after["disk"] - before["disk"] for before, after in pairwise(done)]
    series = {
        "memory": [one["memory"] for one in done],
        "files": [one["files"] for one in done],
        "disk a run": added,
    }
    return {
        name: fmean(values[-third:]) / fmean(values[:third])
        for name, values in series.items()
        if len(values) >= 2
    }


def show(done: list[dict[str, Any]], grown: dict[str, float]) -> None:
    """Print what was measured."""
    table = Table("run", "fault", "at", "round", "seconds", "memory, MB", "open files", "disk, MB")
    for one in done:
        table.add_row(
            *(one["run"], one["fault"], one["who"], str(one["round"]), f"{one['seconds']:.0f}"),
            *(f"{one['memory'] / 1e6:.0f}", str(one["files"]), f"{one['disk'] / 1e6:.1f}"),
        )
    console = Console()
    console.print(table)
    console.print("last third over first third:", {k: round(v, 3) for k, v in grown.items()})


if __name__ == "__main__":
    sys.exit(main())
