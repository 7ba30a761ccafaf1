"""Counts mutmut's results by file and lists what lives: `python tests/mutation/report.py FOLDER [--write]`.

Each survivor is listed with the lines it changes. `accepted.txt` says of kinds of survivors why they may live; with
`--write` the tables of docs/mutation.md are made anew.
"""

import ast
import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "mutation.md"
STATES = {1: "killed", 3: "killed", 36: "timeout", 0: "survived", 33: "survived", None: "untried"}
AROUND = 6
"""Words and signs around a change that are shown with it."""
ODD = "odd"
"""A mutant that ended the process in another way, such as by a signal."""


@dataclass(frozen=True)
class Survivor:
    """key: mutmut's name. place: file and function. lines: what stood there and what the mutant makes of it."""

    key: str
    place: str
    lines: tuple[str, str]


def states(folder: Path) -> dict[str, dict[str, str]]:
    """By file, what became of each mutant."""
    config = ConfigParser()
    config.read(folder / "setup.cfg")
    found = {}
    for name in config["mutmut"]["only_mutate"].split():
        codes = json.loads((folder / "mutants" / f"{name}.meta").read_text())["exit_code_by_key"]
        found[name] = {key: STATES.get(code, ODD) for key, code in codes.items()}
    return found


def survivors(folder: Path, file: str, keys: set[str]) -> Iterator[Survivor]:
    """What the mutants of one file change, read from the file that mutmut wrote."""
    source = (folder / "mutants" / file).read_text()
    bodies = {
        node.name: ast.unparse(node).splitlines()[1:]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }
    for key in sorted(keys, key=lambda key: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", key)]):
        name = key.rpartition(".")[2]
        stem, _, _ = name.rpartition("__mutmut_")
        before, after = bodies[f"{stem}__mutmut_orig"], bodies[name]
        changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
        lines = tuple(" ".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+")
        function = re.sub(r"^x_?ǁ?", "", stem).replace("ǁ", ".").removesuffix("_of")
        yield Survivor(key, f"{Path(file).name} `{function}`", (lines[0], lines[1]))


def change(before: str, after: str) -> str:
    """What differs between two texts, with a few words around it."""
    a, b = (re.findall(r"\w+|\s+|[^\w\s]", text) for text in (before, after))
    head = 0
    while head < min(len(a), len(b)) and a[head] == b[head]:
        head += 1
    tail = 0
    while tail < min(len(a), len(b)) - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    start = max(0, head - AROUND)
    return " → ".join(
        f"`{''.join(part[start : len(part) - max(0, tail - AROUND)]).strip()}`" for part in (a, b)
    )


def accepted() -> list[tuple[str, list[str]]]:
    """The groups of accepted.txt: an explanation, and the survivors it is for, as `line` writes them."""
    groups: list[tuple[str, list[str]]] = []
    for text in (HERE / "accepted.txt").read_text().splitlines():
        if text.startswith("# "):
            groups.append((text[2:], []))
        elif text.strip():
            groups[-1][1].append(text)
    return groups


def table(found: dict[str, dict[str, str]]) -> list[str]:
    """Totals by file. The score is of all that were tried; a timeout is a kill."""
    rows = [
        "| file | mutants | killed | timeouts | live | untried | score |",
        "|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for name, one in [*found.items(), ("all", None)]:
        counts = Counter(one.values()) if one is not None else total
        dead, late, live = counts["killed"], counts["timeout"], counts["survived"] + counts[ODD]
        score = f"{100 * (dead + late) / (dead + late + live):.1f} %" if dead + late + live else ""
        rows.append(
            f"| {name} | {counts.total()} | {dead} | {late} | {live} | {counts['untried']} | {score} |"
        )
        total += counts if one is not None else Counter()
    return rows


def main(folder: Path, write: bool) -> None:
    found = states(folder)
    live = {
        name: {key for key, state in one.items() if state in ("survived", ODD)} for name, one in found.items()
    }
    lines = Counter(
        f"{s.place}: {change(*s.lines)}" for name in found for s in survivors(folder, name, live[name])
    )
    groups, known = [], set()
    for explanation, texts in accepted():
        here = [text for text in texts if text in lines]
        known |= set(here)
        groups.append((explanation, here))
    unknown = [text for text in lines if text not in known]
    print("\n".join(table(found)))
    print(*(f"not explained: {text}" for text in unknown), sep="\n")
    if write:
        listed = []
        for explanation, here in [*groups, ("Not explained yet.", unknown)]:
            if here:
                many = [f"- {text}" + (f" (×{lines[text]})" if lines[text] > 1 else "") for text in here]
                listed += ["", f"**{explanation}**", "", *many]
        page = PAGE.read_text()
        for mark, rows in (("totals", table(found)), ("survivors", listed)):
            start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
            page = (
                page[: page.index(start) + len(start)]
                + "\n"
                + "\n".join(rows)
                + "\n"
                + page[page.index(end) :]
            )
        PAGE.write_text(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--write" in sys.argv)
