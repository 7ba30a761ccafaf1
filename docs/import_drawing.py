"""Draws which room imports which: `python docs/import_drawing.py` writes docs/images/imports-*.svg.

A room is a folder or a file directly in a package. Each stands one floor above the highest room it imports,
so an arrow can only point down; rooms that import each other in a circle are an error. Arrows that others imply
are faint.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path

import grimp

IMAGES = Path(__file__).parent / "images"
PACKAGES = ("transfuse", "transfuse_lab")
FACES = {"transfuse.plugin"}
"""Modules that gather names of all rooms for people outside; drawn nowhere."""
WIDTH, HEIGHT, GAP, RISE = 104, 30, 22, 74
STYLE = """
text { font: 13px sans-serif; text-anchor: middle; fill: #212529 }
rect { fill: #e9ecef; stroke: #3d5a80; rx: 5 }
path { fill: none; stroke: #3d5a80; stroke-opacity: .18 }
.direct { stroke-opacity: .9; stroke-width: 1.4 }
"""

Rooms = dict[str, set[str]]


def rooms(package: str) -> Rooms:
    """Each room and the rooms it imports; imports for types alone are left out, those inside functions counted."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    found: Rooms = {}
    for module in sorted(graph.modules - FACES - {package}):
        here = module.split(".")[1]
        below = {
            name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) if "." in name
        }
        found.setdefault(here, set()).update(below - {here})
    return found


def circle(arrows: Rooms) -> list[str]:
    """Rooms that import each other in a circle; none: []."""
    left = {room: set(below) for room, below in arrows.items()}
    while free := [room for room, below in left.items() if not below & left.keys()]:
        for room in free:
            del left[room]
    return sorted(left)


def floors(arrows: Rooms) -> dict[str, int]:
    """The floor of each room, 0 the ground. Raises ValueError naming rooms in a circle."""
    if stuck := circle(arrows):
        raise ValueError(f"rooms import each other in a circle: {', '.join(stuck)}")
    found: dict[str, int] = {}
    while len(found) < len(arrows):
        for room, below in arrows.items():
            if room not in found and below <= found.keys():
                found[room] = 1 + max((found[other] for other in below), default=-1)
    return found


def drawing(arrows: Rooms) -> str:
    """The rooms as an SVG, ground floor at the bottom."""
    level = floors(arrows)
    rows = [sorted(room for room in level if level[room] == n) for n in range(max(level.values()) + 1)]
    width = max(len(row) for row in rows) * (WIDTH + GAP) + GAP
    height = len(rows) * RISE
    place: dict[str, tuple[float, float]] = {}
    for n, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        order = sorted(row, key=lambda room: _pull(room, arrows, place))
        for i, room in enumerate(order):
            place[room] = left + i * (WIDTH + GAP) + WIDTH / 2, height - RISE / 2 - n * RISE
    drawn = sorted((_implied(room, other, arrows), room, other) for room in arrows for other in arrows[room])
    lines = [_arrow(place[room], place[other], implied) for implied, room, other in reversed(drawn)]
    boxes = [_box(room, *at) for room, at in place.items()]
    body = "\n".join([*lines, *boxes])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n'
        f"<style>{STYLE}</style>\n"
        f'<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8" style="stroke-opacity: 1"/></marker>\n{body}\n</svg>\n'
    )


def _implied(room: str, other: str, arrows: Rooms) -> bool:
    """Whether a longer way leads from a room to another."""
    seen, ahead = set(), arrows[room] - {other}
    while ahead := ahead - seen:
        seen |= ahead
        ahead = set().union(*(arrows[between] for between in ahead))
    return other in seen


def _pull(room: str, arrows: Rooms, place: Mapping[str, tuple[float, float]]) -> float:
    below = [place[other][0] for other in arrows[room]]
    return sum(below) / len(below) if below else 0.0


def _box(room: str, x: float, y: float) -> str:
    left, top = x - WIDTH / 2, y - HEIGHT / 2
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<text x="{x:g}" y="{y + 4:g}">{escape(room)}</text>'
    )


def _arrow(start: tuple[float, float], end: tuple[float, float], implied: bool) -> str:
    (x0, y0), (x1, y1) = start, end
    y0, y1 = y0 + HEIGHT / 2, y1 - HEIGHT / 2
    bend = (y1 - y0) / 2
    style = "" if implied else ' class="direct" marker-end="url(#tip)"'
    return f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}"{style}/>'


if __name__ == "__main__":
    for package in PACKAGES:
        (IMAGES / f"imports-{package}.svg").write_text(drawing(rooms(package)))
