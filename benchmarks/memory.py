"""Peaks of memory: of a command and all that it starts, sampled, and of this process, exactly."""

import json
import resource
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

# Reading PSS walks a process's page tables: more often, and the measuring slows the measured.
SAMPLE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Watched:
    """A command that has ended.

    Parameters
    ----------
    status : int
        Its exit status.
    peak_bytes : int
        The most memory that it and what it started held at once: PSS, so that pages shared between
        processes count once.
    output : str
        What it printed, where that was kept.
    """

    status: int
    peak_bytes: int
    output: str


def watched(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    home: Path,
    *,
    keep_output: bool = False,
) -> Watched:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
        What to run.
    folder : Path
        Where.
    environment : mapping of str to str
        Its environment, whole.
    home : Path
        Where the managed chain's node is noted, which is no child of the command.
    keep_output : bool
        Whether standard output is kept, or shown.
    """
    process = psutil.Popen(
        list(command),
        cwd=folder,
        env=dict(environment),
        stdout=-1 if keep_output else None,
        text=True,
    )
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], memory_of(process, home))

    sampler = threading.Thread(target=sample)
    sampler.start()
    output, _ = process.communicate()
    done.set()
    sampler.join()
    return Watched(process.returncode, peak[0], output or "")


def memory_of(process: psutil.Process, home: Path) -> int:
    """Return the PSS of a process, all it started, and the home's chain node, in bytes."""
    processes = {process}
    record = home / "chain" / "node.json"
    try:
        processes.update(process.children(recursive=True))
        if record.exists():
            node = psutil.Process(json.loads(record.read_text())["pid"])
            processes.update([node, *node.children(recursive=True)])
    except (psutil.NoSuchProcess, json.JSONDecodeError):
        # Something ended, or the record is being written: the next sample will see.
        return 0
    total = 0
    for each in processes:
        try:
            total += each.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def reset_peak() -> int:
    """Set the kernel's high-water mark back to the memory held now, and return that, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(psutil.Process().memory_info().rss)


def peak_of_this_process() -> int:
    """Return the most memory that this process held since the mark was set, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
