"""The report's pictures: what each recipe draws, its captions, and the masks."""

from collections.abc import Sequence
from dataclasses import dataclass

from transfuse.errors import TransfuseError

from transfuse_lab.report.html import Html, tag
from transfuse_lab.report.sections import Entries, section, swatch
from transfuse_lab.runs.records import RunRecord, Sample

MOST_PROMPTS, MOST_A_PROMPT, MOST_CAPTIONS = 12, 8, 40


def samples(entries: Entries) -> Html:
    """What each entry draws for each prompt, beside real images of the same caption."""
    drawn = [sample for runs in entries.values() for run in runs for sample in run.samples]
    prompts = _prompts(drawn)
    if not prompts:
        return Html("")
    real: dict[str, dict[str, None]] = {}
    for runs in entries.values():
        for one in runs[0].captions:
            real.setdefault(one.truth, {})[one.image] = None
    own = {sample.prompt: sample.real for sample in drawn if sample.real}
    real |= {prompt: {image: None} for prompt, image in own.items() if prompt not in real}
    cards = []
    if any(prompt in real for prompt in prompts):
        rows = [
            (prompt, [_image(image, prompt) for image in list(real.get(prompt, {}))[:MOST_A_PROMPT]])
            for prompt in prompts
        ]
        cards.append(_grid(tag("span", "real", class_="swatch"), rows))
    for colour, (entry, runs) in enumerate(entries.items()):
        cards.append(_grid(swatch(entry, colour), _sample_rows(runs[0], prompts), f"seed {runs[0].seed}"))
    more = [
        _grid(swatch(entry, colour), _sample_rows(run, prompts), f"seed {run.seed}")
        for colour, (entry, runs) in enumerate(entries.items())
        for run in runs[1:]
        if run.samples
    ]
    note = (
        "The first images each run drew, none chosen by hand. A marked image is one in which the classifier "
        "reads another caption."
    )
    rest = (
        tag("details", tag("summary", "The other seeds"), tag("div", *more, class_="cards")) if more else None
    )
    return section("Samples", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"), rest)


def _prompts(drawn: Sequence[Sample]) -> list[str]:
    """The prompts to show: held-out ones, and as many that were trained on where there are any."""
    held, seen = (
        list(dict.fromkeys(sample.prompt for sample in drawn if sample.split == split))
        for split in ("heldout", "train")
    )
    return [*held[: MOST_PROMPTS - min(len(seen), MOST_PROMPTS // 2)], *seen[: MOST_PROMPTS // 2]]


def _sample_rows(run: RunRecord, prompts: Sequence[str]) -> list[tuple[str, list[Html]]]:
    drawn: dict[str, list[Html]] = {prompt: [] for prompt in prompts}
    for one in run.samples:
        if one.prompt in drawn and len(drawn[one.prompt]) < MOST_A_PROMPT:
            drawn[one.prompt].append(_image(one.image, one.prompt, one.seen))
    return list(drawn.items())


def _grid(head: Html, rows: Sequence[tuple[str, Sequence[Html]]], note: str = "") -> Html:
    lines = [
        tag("div", tag("span", prompt, class_="prompt"), tag("span", *images, class_="images"), class_="row")
        for prompt, images in rows
    ]
    caption = tag("figcaption", head, tag("span", f" {note}", class_="quiet") if note else None)
    return tag("figure", caption, *lines, class_="grid")


def _image(image: str, prompt: str, seen: str | None = None) -> Html:
    wrong = seen is not None and seen != prompt
    text = f"{prompt}, read as {seen}" if wrong else prompt
    return tag(
        "img", src=f"data:image/png;base64,{image}", alt=text, title=text, class_="wrong" if wrong else None
    )


def captions(entries: Entries) -> Html:
    """Held-out images with the caption each entry gives them, right or wrong."""
    cards = []
    for colour, (entry, runs) in enumerate(entries.items()):
        shown = runs[0].captions[:MOST_CAPTIONS]
        if not shown:
            continue
        right = sum(one.truth == one.predicted for one in shown)
        note = f" seed {runs[0].seed}: {right} of these {len(shown)} right"
        tiles = [
            tag(
                "div",
                _image(one.image, one.truth),
                tag("span", "✓ " if one.truth == one.predicted else "✗ ", one.predicted or "(empty)"),
                None if one.truth == one.predicted else tag("span", f"is {one.truth}", class_="quiet"),
                class_="tile right" if one.truth == one.predicted else "tile mistaken",
            )
            for one in sorted(shown, key=lambda one: one.truth == one.predicted)
        ]
        head = tag("figcaption", swatch(entry, colour), tag("span", note, class_="quiet"))
        cards.append(tag("figure", head, tag("div", *tiles, class_="tiles")))
    if not cards:
        return Html("")
    note = f"The first {MOST_CAPTIONS} held-out images and their greedy captions, mistakes first."
    return section("Captions", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


@dataclass(frozen=True)
class MaskPicture:
    """A mask drawn on an example.

    entries: the comparison's entries that use it. expression: its text form.
    drawing: a string a query, ``#`` where it sees the key and ``.`` where not.
    labels: what each position is, a word or letter each, or empty.
    """

    entries: tuple[str, ...]
    expression: str
    drawing: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = {len(row) for row in self.drawing}
        if len(keys) != 1 or set("".join(self.drawing)) - {"#", "."}:
            raise TransfuseError(f"mask {self.expression}: a drawing is rows of '#' and '.', of one length")
        if self.labels and len(self.labels) != len(self.drawing):
            raise TransfuseError(
                f"mask {self.expression}: {len(self.labels)} labels for {len(self.drawing)} queries"
            )


def mask_pictures(masks: Sequence[MaskPicture]) -> Html:
    """Who sees whom."""
    if not masks:
        return Html("")
    cards = [
        tag("figure", tag("figcaption", ", ".join(one.entries)), draw_mask(one), tag("code", one.expression))
        for one in masks
    ]
    note = "A row is a position that looks, a column one that is looked at; filled: it is seen."
    return section("Masks", tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


def draw_mask(mask: MaskPicture) -> Html:
    """The picture as SVG; labels stand beside the queries."""
    rows, width = len(mask.drawing), len(mask.drawing[0])
    margin = max((len(label) for label in mask.labels), default=0) * 0.55 + (0.5 if mask.labels else 0)
    parts = [tag("rect", x=margin, y=0, width=width, height=rows, class_="unseen")]
    for y, line in enumerate(mask.drawing):
        parts += [
            tag("rect", x=f"{margin + start:g}", y=y, width=length, height=1, class_="seen")
            for start, length in _runs(line)
        ]
    lines = [(margin + x, margin + x, 0, rows) for x in range(width + 1)]
    lines += [(margin, margin + width, y, y) for y in range(rows + 1)]
    parts += [tag("line", x1=a, x2=b, y1=c, y2=d, class_="mesh") for a, b, c, d in lines]
    parts += [
        tag("text", label, x=f"{margin - 0.35:.2f}", y=y + 0.78, text_anchor="end")
        for y, label in enumerate(mask.labels)
    ]
    return tag(
        "svg", *parts, viewbox=f"-0.1 -0.1 {margin + width + 0.2:.2f} {rows + 0.2}", role="img",
        aria_label=f"mask {mask.expression}", class_="mask",
    )  # fmt: skip


def _runs(line: str) -> list[tuple[int, int]]:
    """Start and length of each stretch of ``#``."""
    runs, start = [], None
    for place, cell in enumerate(line + "."):
        if cell == "#" and start is None:
            start = place
        elif cell == "." and start is not None:
            runs.append((start, place - start))
            start = None
    return runs
