"""What the site needs beyond Markdown of its own: files that lie outside docs/, and links that lead to them.

A link from a page to `../FILE` holds in the tree. On the site a Markdown file from outside is a page of its own, under
its name in small letters, and any other file is copied as it is into `source/`. Run by mkdocs (`hooks` in mkdocs.yml).
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ALWAYS = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"\]\(([^)#:\s]+)")


def led_to(page: str, link: str) -> str | None:
    """The file of the tree that a link on a page of the tree leads to, if there is one."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return path if (ROOT / path).is_file() else None


def address(path: str) -> str:
    """Where a file of the tree stands on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path.lower() if path.endswith(".md") else f"source/{path}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds every file outside docs/ that a page leads to, and what those that are pages lead to."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()] + list(ALWAYS)
    added = set(ALWAYS)
    while pages:
        page = pages.pop()
        links = (led_to(page, link) for link in LINK.findall((ROOT / page).read_text()))
        new = {path for path in links if path and not path.startswith("docs/")} - added
        added |= new
        pages += [path for path in new if path.endswith(".md")]
    for path in sorted(added):
        files.append(File.generated(config, address(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links of the tree into links of the site."""
    source = Path(page.file.abs_src_path or "").relative_to(ROOT).as_posix()
    here = posixpath.dirname(page.file.src_uri) or "."

    def turned(link: re.Match[str]) -> str:
        path = led_to(source, link[1])
        return f"]({posixpath.relpath(address(path), here)}" if path else link[0]

    return LINK.sub(turned, markdown)
