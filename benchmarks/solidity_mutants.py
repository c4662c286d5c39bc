"""Mutants of Solidity sources: each one small change that a good test-suite should notice.

Only code is changed, never a comment, a string, an import or a pragma. `mutants` finds every place
where one of the named operators applies; `spread` puts them in a seeded order, every beginning of
which takes about the same share of each contract's.

Written here, because the rules of universalmutator, the generator that pip installs, rewrite single
lines by regular expressions: strings too, and no guard or statement of several lines as one.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_STRING: Final = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
_NO_CODE: Final = re.compile(rf"//[^\n]*|/\*.*?\*/|{_STRING}", re.DOTALL)
_DIRECTIVE: Final = re.compile(r"^\s*(?:import|pragma|using)\b[^;]*;", re.MULTILINE)
_TOKEN: Final = re.compile(
    r"\*\*|>>=|<<=|>>|<<|=>|\+\+|--|&&|\|\||[<>=!+\-*/%&|^]=|[<>+\-*/%&|^!]"
    r"|\b0x[0-9a-fA-F]+\b|\b\d[\d_]*\b|\btrue\b|\bfalse\b"
)
_HEADER: Final = re.compile(r"\b(?:function|constructor|modifier|receive|fallback)\b")
#: Where a statement may start: after another one, or at the start or the end of a block.
_STATEMENT: Final = re.compile(r"(?<=[;{}])\s+(?=[\w(+-])")
#: What cannot be left out alone: declarations, what steers the flow, and what a guard ends in.
_KEPT: Final = re.compile(
    r"(?:return|revert|if|else|for|while|do|break|continue|unchecked|assembly|try|catch)\b"
    r"|[\w.]+(?:\[\])? (?:(?:memory|storage|calldata) )?\w+(?: =|;)|\(\w+ \w+|\(\w+(?:\.\w+)* \w+"
)
_VISIBILITY: Final = frozenset(("external", "public", "internal", "private"))
_HEADER_KEYWORDS: Final = _VISIBILITY | {
    "view", "pure", "payable", "virtual", "override", "returns",
}  # fmt: skip

_SWAPS: Final[Mapping[str, Mapping[str, str]]] = {
    "comparison negated": {
        "==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">",
    },
    "boundary moved": {"<": "<=", "<=": "<", ">": ">=", ">=": ">"},
    "connective swapped": {"&&": "||", "||": "&&"},
    "arithmetic swapped": {
        "+": "-", "-": "+", "*": "/", "/": "*", "+=": "-=", "-=": "+=", "++": "--", "--": "++",
        "&": "|", "|": "&", "|=": "&=", "&=": "|=", "<<": ">>", ">>": "<<",
    },
    "truth value swapped": {"true": "false", "false": "true"},
    "negation removed": {"!": ""},
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one file: what stands between two offsets is replaced."""

    file: str
    start: int
    end: int
    operator: str
    replacement: str

    @property
    def key(self) -> str:
        """Short name that is the same in every run."""
        text = "\0".join(map(str, (self.file, self.start, self.end, self.replacement)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def apply(self, source: str) -> str:
        """Return the source with the change made."""
        return source[: self.start] + self.replacement + source[self.end :]


def code_of(source: str) -> str:
    """Blank out all that is no code: equally long, lines and offsets stay."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found.group())

    return _DIRECTIVE.sub(blank, _NO_CODE.sub(blank, source))


def mutants(file: str, source: str) -> list[Mutant]:
    """Return every mutant of a source, by its place."""
    code = code_of(source)
    found = {Mutant(file, *change) for change in _tokens(code)}
    for header, body, end in functions(code):
        found.update(Mutant(file, *change) for change in _modifiers(code, header, body))
        found.update(Mutant(file, *change) for change in _statements(code, body, end))
    return sorted(found)


def spread(sites: Mapping[str, list[Mutant]], seed: int) -> list[Mutant]:
    """Put all mutants in a seeded order that advances through all files at the same pace."""
    rng = random.Random(seed)  # noqa: S311 - a draw to repeat, not a secret
    placed: list[tuple[float, Mutant]] = []
    for _, of_file in sorted(sites.items()):
        shuffled = rng.sample(of_file, len(of_file))
        offset = rng.random()
        placed += [((i + offset) / len(shuffled), each) for i, each in enumerate(shuffled)]
    return [mutant for _, mutant in sorted(placed)]


def functions(code: str) -> Iterator[tuple[int, int, int]]:
    """Where each function with a body starts, where its body does, and where that ends."""
    for header in _HEADER.finditer(code):
        body = re.compile(r"[{;]").search(code, header.end())
        if body is not None and body.group() == "{":
            yield header.start(), body.start(), _closing(code, body.start())


def _closing(code: str, opening: int) -> int:
    """Offset of the bracket that closes the one at `opening`."""
    pair = {"(": ")", "{": "}"}[code[opening]]
    depth = 0
    for offset in range(opening, len(code)):
        depth += (code[offset] == code[opening]) - (code[offset] == pair)
        if depth == 0:
            return offset
    raise ValueError(f"the bracket at {opening} is never closed")


def _tokens(code: str) -> Iterator[tuple[int, int, str, str]]:
    for token in _TOKEN.finditer(code):
        text = token.group()
        for operator, swaps in _SWAPS.items():
            if text in swaps:
                yield token.start(), token.end(), operator, swaps[text]
        if text[0].isdigit():
            raised = int(text.replace("_", ""), 0) + 1
            written = f"0x{raised:0{len(text) - 2}x}" if text.startswith("0x") else str(raised)
            yield token.start(), token.end(), "constant raised", written


def _modifiers(code: str, header: int, body: int) -> Iterator[tuple[int, int, str, str]]:
    if not code.startswith("function", header):
        # What a constructor names after its parameters are the contracts that it builds on.
        return
    start = _closing(code, code.index("(", header)) + 1
    for word in re.compile(r"\b[A-Za-z_]\w*(?:\([^()]*\))?").finditer(code, start, body):
        name = word.group().partition("(")[0].strip()
        before = code[start : word.start()]
        in_returns = before.count("(") > before.count(")")
        if name not in _HEADER_KEYWORDS and not in_returns:
            yield word.start(), word.end(), "modifier removed", ""


def _statements(code: str, body: int, end: int) -> Iterator[tuple[int, int, str, str]]:
    for found in re.compile(r"\bif (?=\()").finditer(code, body, end):
        opening = found.end()
        closing = _closing(code, opening)
        condition = code[opening + 1 : closing]
        # A lone comparison, or a `!`, is turned round by its own operator already.
        if "&&" in condition or "||" in condition or not re.search(r"[!=<>]", condition):
            yield opening + 1, closing, "condition negated", f"!({condition})"
        guard = re.compile(r"\s*(?:(\{)\s*)?revert\b[^;]*;(?(1)\s*\})(?!\s*else)").match(
            code, closing + 1
        )
        chained = code[: found.start()].rstrip().endswith("else")
        if guard is not None and not chained:
            yield found.start(), guard.end(), "guard removed", ""
    for gap in _STATEMENT.finditer(code, body, end):
        start = gap.end()
        stop = code.find(";", start)
        if start >= end or stop < 0 or _KEPT.match(code, start) is not None:
            continue
        text = code[start:stop]
        # An open bracket is the head of a `for`; a brace belongs to a block.
        in_head = code.count("(", body, start) > code.count(")", body, start)
        if in_head or "{" in text or text.count("(") != text.count(")"):
            continue
        operator = "increment removed" if text.startswith(("++", "--")) else "statement deleted"
        yield start, stop + 1, operator, ""
