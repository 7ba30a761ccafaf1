"""The whole page: its parts in order, with nothing loaded from anywhere."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError
from transfuse.files import write_text

from transfuse_lab.evaluation.statistics import by_entry
from transfuse_lab.report import method, samples, sections
from transfuse_lab.report.headline import not_yet, sentences, title
from transfuse_lab.report.html import Html, join, tag
from transfuse_lab.report.masks import MaskPicture, mask_pictures
from transfuse_lab.report.plan_findings import plan_findings
from transfuse_lab.runs.records import RunRecord

# Nothing is loaded, from anywhere: pictures are in the page, and there is no script.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(
    path: Path,
    records: Sequence[RunRecord],
    data: Mapping[str, Any],
    masks: Sequence[MaskPicture] = (),
    command: str = "",
    found: Mapping[str, Any] | None = None,
    awaited: Sequence[str] = (),
) -> None:
    """Writes the page, whole or not at all.

    data: the data set's identity. command: what reproduces it all. found: a plan's findings.
    awaited: the names of runs that have not ended.
    Raises TransfuseError without a record, or for two of one entry and seed.
    """
    write_text(path, page(records, data, masks, command, found, awaited) + "\n")


def page(
    records: Sequence[RunRecord],
    data: Mapping[str, Any],
    masks: Sequence[MaskPicture] = (),
    command: str = "",
    found: Mapping[str, Any] | None = None,
    awaited: Sequence[str] = (),
) -> str:
    """The page as text."""
    entries = by_entry(records)
    if not entries:
        raise TransfuseError("report: there is no run to report on")
    name = title(list(entries), str(data.get("name", "data"))) if found is None else found["plan"]["title"]
    body = join(
        sections.opening(
            name, [*not_yet(awaited, records), *(sentences(entries) if found is None else [])], entries
        ),
        Html("") if found is None else plan_findings(found),
        sections.table(entries),
        sections.curves(entries),
        samples.samples(entries),
        mask_pictures(masks),
        method.method(entries, data, command),
        method.settings(entries),
    )
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{name} · transfuse"),
        tag("style", Html(files("transfuse_lab.report").joinpath("style.css").read_text("utf-8"))),
    )
    whole = tag("html", tag("head", head), tag("body", tag("main", body)), lang="en")
    return f"<!doctype html>\n{whole}"
