"""A table of texts: drawn on a terminal, tab-separated lines anywhere else."""

import sys
from collections.abc import Iterable, Iterator, Sequence

from transfuse_lab.visible import visible


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints the rows under their headings. Off a terminal headings and title are left out."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(visible(" ".join(cell.split())) for cell in row).rstrip("\t"))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of as many cells each as lines; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    for first, *cells in rows:
        yield first.ljust(widths[0]) + "".join(
            cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True)
        )
