"""Docs are executed: every Python block of the README and of the guides runs as it stands, in order."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("index", "quickstart", "architecture", "sampling", "testing")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"^(?:\$ )?transfuse ([a-z]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(page: str) -> None:
    names: dict[str, object] = {}
    for source in BLOCK.findall((ROOT / page).read_text()):
        exec(compile(source, page, "exec"), names)


@pytest.mark.parametrize(
    "page", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
)
def test_links_lead_somewhere(page: str) -> None:
    for target in LINK.findall((ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_the_readme_shows_what_its_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text()
    exec(compile(BLOCK.search(text)[1], "README.md", "exec"), {})  # type: ignore[index]
    printed = [line for line in capsys.readouterr().out.splitlines() if set(line) <= {"#", "."}]
    shown = re.findall(r"^([#.]{10,})", text, re.MULTILINE)
    assert shown == printed


def test_the_readme_ends_in_the_tree_and_no_package_or_folder_is_missing() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree\n\n```\n")[1]
    lines = tree.removesuffix("```\n").splitlines()
    assert all(re.match(r" *[\w./]+/?( {2,}\S.*)?$", line) for line in lines)
    named = {
        part for line in lines for part in line.split("  ")[0 if line[0] != " " else 1].split("/") if part
    }
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    folders = {path.split("/")[0] for path in tracked if "/" in path and path[0] != "."}
    packages = {
        path.parent.name
        for floor in ("core", "plugins", "adapters", "lab")
        for path in ROOT.glob(f"{floor}/*/__init__.py")
    }
    assert named - {"registry.yaml"} == folders | packages


def test_the_front_page_leads_to_every_page_but_those_of_hooks() -> None:
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/index.md").read_text()))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert linked == {page for page in pages if not page.startswith("hooks/")} - {"index.md"}


def test_whoever_shows_the_demos_figures_says_what_their_differences_are() -> None:
    pages = {page.name: page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
    showing = {name for name, text in pages.items() if "compare-digits.json" in text}
    assert "results.md" in showing
    assert [name for name in showing if "mostly tuning" not in pages[name]] == []


def test_the_page_of_samples_has_every_option_and_no_other() -> None:
    from transfuse_lab.cli import app
    from typer.main import get_command

    command = get_command(app).commands["sample"]  # type: ignore[attr-defined]
    own = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    page = (ROOT / "docs/sampling.md").read_text()
    assert set(re.findall(r"--[a-z]+", page)) == own


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    from transfuse_lab.cli import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    known |= {group.name for group in app.registered_groups}
    for command in COMMAND.findall((ROOT / page).read_text()):
        assert command in known, f"{page} names `transfuse {command}`"
