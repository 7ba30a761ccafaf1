"""Tables of the docs that scripts write: each stands between two marks that name its script."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
END = "<!-- end -->"


def written(page: str, mark: str, table: str) -> str:
    """The page with ``table`` between ``<!-- mark -->`` and the next ``<!-- end -->``."""
    begin = f"<!-- {mark} -->\n"
    before, rest = page.split(begin, 1)
    return f"{before}{begin}{table}\n{END}{rest.split(END, 1)[1]}"


def write(name: str, mark: str, table: str) -> None:
    """Put ``table`` into the page ``docs/NAME``."""
    page = DOCS / name
    page.write_text(written(page.read_text(), mark, table))
