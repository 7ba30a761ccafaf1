"""What each recipe made, task by task, beside what the documents have: drawn by the modalities, or as text."""

from collections.abc import Iterable, Sequence

from transfuse_lab.report.html import Html, tag
from transfuse_lab.report.sections import Entries, section, swatch
from transfuse_lab.runs.records import RunRecord, Sample, Shown

MOST_PROMPTS, MOST_A_PROMPT, MOST_TEXTS = 12, 8, 40
LONG = 40
"""Letters of a text from which on its tile is a large one."""
PLOT = "image/svg+xml"
Prompt = tuple[Shown, ...]


def samples(entries: Entries) -> Html:
    """A part a task."""
    runs = [run for group in entries.values() for run in group]
    tasks = dict.fromkeys(one.task for run in runs for one in run.samples)
    parts = [part for task in tasks if (part := _task(task, entries))]
    return section("Samples", *parts) if parts else Html("")


def _task(task: str, entries: Entries) -> Html | None:
    made = [one for runs in entries.values() for run in runs for one in run.samples if one.task == task]
    if all(one.made.text is not None for one in made):
        return _texts(task, entries)
    return _drawings(task, entries, made)


# -- what is drawn


def _drawings(task: str, entries: Entries, made: Sequence[Sample]) -> Html:
    """A row a prompt: what each entry made, beside what documents with this prompt have."""
    prompts = _prompts(made)
    real = [one for runs in entries.values() for run in runs[:1] for one in run.samples if one.task == task]
    cards = []
    if any(one.truth for one in real):
        rows = [(prompt, _distinct(one.truth for one in real if one.given == prompt)) for prompt in prompts]
        head = tag("span", "real", class_="swatch")
        cards.append(_grid(head, [(prompt, [_image(one) for one in row]) for prompt, row in rows]))
    more = []
    for colour, (entry, runs) in enumerate(entries.items()):
        for run in runs:
            rows = _rows(run, task, prompts)
            if not any(made for _, made in rows):  # a record that is kept for good may leave its samples out
                continue
            card = _grid(swatch(entry, colour), rows, f"seed {run.seed}")
            (cards if run is runs[0] else more).append(card)
    note = "The first that each run made, none chosen by hand."
    if any(one.mistaken for one in made):
        note += " Marked: a metric reads something else in it than the prompt."
    rest = (
        tag("details", tag("summary", "The other seeds"), tag("div", *more, class_="cards")) if more else None
    )
    return tag(
        "div", tag("h3", task), tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"), rest
    )


def _prompts(made: Sequence[Sample]) -> list[Prompt]:
    """The prompts to show: held-out ones, and as many that were trained on where there are any."""
    held, seen = (
        list(dict.fromkeys(one.given for one in made if one.split == split)) for split in ("heldout", "train")
    )
    return [*held[: MOST_PROMPTS - min(len(seen), MOST_PROMPTS // 2)], *seen[: MOST_PROMPTS // 2]]


def _distinct(values: Iterable[Shown | None]) -> list[Shown]:
    return list(dict.fromkeys(value for value in values if value is not None))[:MOST_A_PROMPT]


def _rows(run: RunRecord, task: str, prompts: Sequence[Prompt]) -> list[tuple[Prompt, list[Html]]]:
    rows: dict[Prompt, list[Html]] = {prompt: [] for prompt in prompts}
    most = MOST_A_PROMPT if len(prompts) > 1 else MOST_A_PROMPT * MOST_PROMPTS
    for one in run.samples:
        if one.task == task and one.given in rows and len(rows[one.given]) < most:
            rows[one.given].append(_image(one.made, one))
    return list(rows.items())


def _grid(head: Html, rows: Sequence[tuple[Prompt, Sequence[Html]]], note: str = "") -> Html:
    """A row a prompt; where each prompt has one thing, a tile of it above the prompt."""
    caption = tag("figcaption", head, tag("span", f" {note}", class_="quiet") if note else None)
    if all(len(made) <= 1 for _, made in rows):
        tiles = [tag("div", *made, tag("span", *_spoken(prompt)), class_="tile") for prompt, made in rows]
        return tag("figure", caption, tag("div", *tiles, class_="tiles large"), class_="grid")
    lines = [
        tag(
            "div",
            tag("span", *_spoken(prompt), class_="prompt"),
            tag("span", *made, class_="images plots" if any(PLOT in one[:60] for one in made) else "images"),
            class_="row",
        )
        for prompt, made in rows
    ]
    return tag("figure", caption, *lines, class_="grid")


def _spoken(prompt: Prompt) -> list[Html | str]:
    return [one.text if one.text is not None else _image(one) for one in prompt]


def _image(shown: Shown, sample: Sample | None = None) -> Html:
    """A drawing with the note on it, marked where that is another prompt; a text where there is no drawing."""
    if shown.drawing is None:
        return tag("span", shown.text or "(empty)")
    asked = " + ".join(one.text or one.role for one in sample.given) if sample else shown.role
    read, wrong = (sample.note, sample.mistaken) if sample else (None, False)
    text = f"{asked}, read as {read}" if wrong else asked if read in (None, asked) else f"{asked}: {read}"
    kinds = [word for word, is_so in (("plot", PLOT in shown.drawing[:60]), ("wrong", wrong)) if is_so]
    return tag("img", src=shown.drawing, alt=text, title=text, class_=" ".join(kinds) or None)


# -- what is text


def _texts(task: str, entries: Entries) -> Html | None:
    """What each entry wrote of held-out prompts, right or wrong; mistakes first."""
    cards = []
    for colour, (entry, runs) in enumerate(entries.items()):
        shown = [one for one in runs[0].samples if one.task == task and one.split == "heldout"][:MOST_TEXTS]
        if not shown:
            continue
        right = sum(_is_right(one) for one in shown)
        known = any(one.truth for one in shown)
        note = f" seed {runs[0].seed}" + (f": {right} of these {len(shown)} right" if known else "")
        tiles = [_tile(one) for one in sorted(shown, key=_is_right)]
        head = tag("figcaption", swatch(entry, colour), tag("span", note, class_="quiet"))
        long = max(len(one.made.text or "") for one in shown) > LONG
        cards.append(tag("figure", head, tag("div", *tiles, class_="tiles large" if long else "tiles")))
    if not cards:
        return None
    note = f"At most {MOST_TEXTS} held-out prompts, spread evenly, mistakes first; text is written greedily."
    return tag("div", tag("h3", task), tag("p", note, class_="quiet"), tag("div", *cards, class_="cards"))


def _is_right(one: Sample) -> bool:
    return one.truth is not None and one.made.text == one.truth.text


def _tile(one: Sample) -> Html:
    written = one.made.text or "(empty)"
    if one.truth is None:
        return tag("div", *_spoken(one.given), tag("span", written), class_="tile")
    right = _is_right(one)
    return tag(
        "div",
        *_spoken(one.given),
        tag("span", "✓ " if right else "✗ ", written),
        None if right else tag("span", f"is {one.truth.text}", class_="quiet"),
        class_="tile right" if right else "tile mistaken",
    )
