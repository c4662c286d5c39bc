"""Runs every benchmark, one after the other, each in a process of its own."""

import subprocess
import sys

BENCHMARKS = (
    "benchmarks.aggregation",
    "benchmarks.training_throughput",
    "benchmarks.contributions",
    "benchmarks.demo",
    "benchmarks.ledger",
    "benchmarks.participation.study",
    "benchmarks.participation.luck",
    "benchmarks.mutations",
)


def main() -> int:
    """Run them all; return 1 if one failed."""
    failed = [
        name
        for name in BENCHMARKS
        if subprocess.run([sys.executable, "-m", name], check=False).returncode
    ]
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
