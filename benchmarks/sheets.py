"""A table that can be printed and written down."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

#: What stands where nothing was measured.
MISSING = "missing"


@dataclass(frozen=True)
class Sheet:
    """A table.

    Parameters
    ----------
    title : str
        What it is about.
    header : sequence of str
        Names of its columns.
    rows : sequence of sequence of str
        As long as the header.
    note : str, optional
        What must be known to read it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def to_rich(self) -> Table:
        """Return it for a terminal."""
        table = Table(*self.header, title=self.title, caption=self.note or None)
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """Return it for a document."""
        lines = [
            f"### {self.title}",
            "",
            _line(self.header),
            _line(["---"] * len(self.header)),
            *map(_line, self.rows),
            "",
        ]
        return "\n".join([*lines, self.note, ""] if self.note else lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
