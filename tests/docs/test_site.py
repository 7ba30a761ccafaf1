"""The site is built without a warning, its links lead somewhere, and nothing public is missing from it."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from transfuse.registry.hooks import HOOKS

ROOT = Path(__file__).parents[2]
MODULES = ("transfuse", "transfuse.plugin", "transfuse.testing", "transfuse.masks")


class Anchors(HTMLParser):
    """What a page can be linked to by, and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        self.links += [found[name] for name in ("href", "src") if name in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's folder, built as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason='mkdocs builds the site: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))] == []
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Anchors]:
    return {path: Anchors(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_inside_leads_to_a_file_and_an_anchor_that_there_are(
    pages: dict[Path, Anchors],
) -> None:
    checked, faults = 0, []
    for page, anchors in pages.items():
        for link in anchors.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = target.is_file() or (target.is_dir() and not parts.fragment)
            if there and parts.fragment and target in pages:
                there = unquote(parts.fragment) in pages[target].ids
            checked += 1
            faults += [] if there else [f"{page.name} links to {link}"]
    assert checked > 1000
    assert faults == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        for tag in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http', "@import"):
            assert tag not in text, f"{page.name} has {tag}"


def test_every_page_is_in_the_navigation(site: Path, pages: dict[Path, Anchors]) -> None:
    listed = {(site / urlsplit(link).path).resolve() for link in pages[site / "index.html"].links}
    written = {
        (site / path.relative_to(ROOT / "docs")).with_suffix(".html") for path in ROOT.glob("docs/**/*.md")
    }
    assert written - listed == set()
    assert {path for path in pages if path.relative_to(site).parts[0] != "source"} - listed == set()


def public_names(module: str) -> set[str]:
    """What a module offers, by full name; modules that it offers have pages of their own."""
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", [name for name in vars(loaded) if not name.startswith("_")])
    return {f"{module}.{name}" for name in names if not isinstance(getattr(loaded, name), ModuleType)}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_stands_once_on_the_modules_page(module: str) -> None:
    text = (ROOT / f"docs/api/{module.split('.')[-1]}.md").read_text()
    written = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(written) == len(set(written)) > 12
    assert set(written) == public_names(module)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str, pages: dict[Path, Anchors]) -> None:
    assert public_names(module) - set().union(*(anchors.ids for anchors in pages.values())) == set()


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_its_page(hook: str, site: Path) -> None:
    assert f"<code>{hook}() -&gt; " in (site / f"hooks/{hook}.html").read_text()
