"""How figures are shown: which of them, in which order, and their values as text."""

from collections.abc import Sequence
from math import floor, log10

from transfuse.metrics import Figure

from transfuse_lab.runs.records import RunRecord

SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
ARROWS = {"higher": "↑", "lower": "↓", "": ""}


def figures_of(records: Sequence[RunRecord]) -> dict[str, Figure]:
    """Every figure that some run has, by name, in the order of the records; details last, by their names."""
    said: dict[str, Figure] = {}
    for record in records:
        for one in record.figures:
            said.setdefault(one.name, one)
    names = dict.fromkeys([*said, *(name for record in records for name in record.metrics)])
    measured = {name for record in records for name in record.metrics}
    found = [said.get(name) or Figure(name=name, title=name.replace("_", " ")) for name in names]
    found = [one for one in found if one.name in measured]
    found.sort(key=lambda one: (one.detail, one.name if one.detail else ""))
    return {one.name: one for one in found}


def show(one: Figure, value: float | None, signed: bool = False) -> str:
    """The value as text without its unit, but with % for shares; a dash for None."""
    if value is None:
        return "–"
    text = f"{100 * value:.1f}\u00a0%" if one.form == "percent" else number(value, one.form == "count")
    return f"+{text}" if signed and value > 0 else text.replace("-", "−")


def show_difference(one: Figure, value: float) -> str:
    """A difference, signed; of shares, in percentage points."""
    if one.form == "percent":
        points = f"{100 * value:+.1f}"
        return ("0.0" if points in ("+0.0", "-0.0") else points.replace("-", "−")) + "\u00a0points"
    return show(one, value, signed=True)


def number(value: float, whole: bool = False) -> str:
    """Three significant digits, or a whole number; powers of ten for what is huge or tiny.

    >>> number(0.012345), number(2.5e12), number(1234.5, whole=True)
    ('0.0123', '2.5 × 10¹²', '1,234')
    """
    if value == 0:
        return "0"
    power = floor(log10(abs(value)))
    if whole and power < 9:
        return f"{value:,.0f}"
    if power >= 6 or power < -4:
        return f"{value / 10**power:.3g} × 10{str(power).translate(SUPERSCRIPT)}"
    return f"{value:,.{max(0, 2 - power)}f}"
