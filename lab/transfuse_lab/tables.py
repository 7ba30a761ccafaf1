"""A table of texts: drawn on a terminal, tab-separated lines anywhere else."""

import sys
from collections.abc import Iterable, Sequence

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
