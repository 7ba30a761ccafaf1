"""The report says what the numbers allow, escapes what others wrote, and loads nothing from anywhere."""

import re
from html.parser import HTMLParser
from math import nan
from pathlib import Path
from typing import Any

import pytest
from transfuse import TransfuseError
from transfuse.metrics import Figure
from transfuse_lab.commands.arguments import read_axes
from transfuse_lab.evaluation.statistics import by_entry
from transfuse_lab.report.figures import figures_of, number, show, show_difference
from transfuse_lab.report.headline import sentences, title
from transfuse_lab.report.html import Html, join, tag
from transfuse_lab.report.masks import MaskPicture
from transfuse_lab.report.method import flat
from transfuse_lab.report.page import page, write_report
from transfuse_lab.runs.records import CurvePoint, RunRecord, Sample, Shown, data_uri

EVIL = "<script>alert('&\"')</script>"
IMAGE = data_uri("<svg/>")
FIGURES = (
    Figure(name="train_flops", title="FLOPs", meaning="what was spent"),
    Figure(name="loss[text->image]", title="Loss", meaning="a mean", detail=True),
    Figure(
        name="generation_accuracy", title="Accuracy", better="higher", form="percent", meaning="what is read",
        headline="prompted images that show what was asked for",
    ),
    Figure(name="classifier_accuracy", title="The classifier's", form="percent", meaning="its own"),
)  # fmt: skip


def drew(prompt: str, note: str | None = None, image: str = IMAGE, mistaken: bool | None = None) -> Sample:
    return Sample(
        task="text->image", given=(Shown(role="text", text=prompt),), made=Shown(role="image", drawing=image),
        truth=Shown(role="image", drawing=image), note=note,
        mistaken=note not in (None, prompt) if mistaken is None else mistaken,
    )  # fmt: skip


def wrote(text: str, truth: str | None, image: str = IMAGE) -> Sample:
    return Sample(
        task="image->text", given=(Shown(role="image", drawing=image),), made=Shown(role="text", text=text),
        truth=None if truth is None else Shown(role="text", text=truth),
    )  # fmt: skip


def run(entry: str, seed: int, accuracy: float = 0.9, **change: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "entry": entry,
        "recipe": entry.split(";")[0],
        "seed": seed,
        "metrics": {"generation_accuracy": accuracy, "classifier_accuracy": 0.99, "train_flops": 2e12},
        "curve": tuple(
            CurvePoint(step=n, flops=1e11 * (n + 1), losses={"text": 3 / (n + 1), "image": 1 / (n + 1)})
            for n in range(5)
        ),
        "figures": FIGURES,
        "samples": (drew("seven", "one"), wrote("six", "seven")),
        "settings": {"loss": {"image": 5 if entry == "transfusion" else 1}, "model": {"dim": 128}},
        "facts": {"codec_seconds": {"image": 12.0}, "versions": {"torch": "2.13"}},
    }
    return RunRecord(**fields | change)


def pair(seeds: int, one: float = 0.95, two: float = 0.8) -> list[RunRecord]:
    return [
        run(entry, seed, mean + 0.001 * seed)
        for entry, mean in (("transfusion", one), ("chameleon", two))
        for seed in range(seeds)
    ]


class Checker(HTMLParser):
    """Fails where elements do not close in order; collects what the page would load."""

    VOID = ("meta", "img", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(name)
        self.loads += [value or "" for key, value in attributes if key in ("src", "href", "srcset", "data")]
        if name not in self.VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


MASK = MaskPicture(("transfusion",), "same(doc) & le(idx)", ("#..", "##.", "###"), ("a", "b", EVIL))


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = page(pair(2), {"name": "digits"}, [MASK], "transfuse compare")
    checker = checked(text)
    assert not checker.seen & {"script", "link", "iframe", "object"}
    assert checker.loads
    assert all(load.startswith("data:image/svg+xml;base64,") for load in checker.loads)
    assert "default-src" in text
    assert not re.search(r"https?://|@import|url\(", text)


def test_everything_others_wrote_is_escaped() -> None:
    records = [
        run(
            EVIL, seed, recipe=EVIL, metrics={EVIL: 1.0, "caption_accuracy": 0.5},
            curve=tuple(CurvePoint(step=n, flops=n, losses={EVIL: n + 1}) for n in range(2)),
            figures=(Figure(name=EVIL, title=EVIL, unit=EVIL, meaning=EVIL, headline=EVIL),),
            faults={EVIL: EVIL}, samples=(drew(EVIL, EVIL + "?", EVIL), wrote(EVIL + "!", EVIL, EVIL)),
            settings={EVIL: EVIL}, facts={EVIL: [EVIL], "versions": {EVIL: EVIL}, "loss_units": {EVIL: EVIL}},
        )
        for seed in range(2)
    ]  # fmt: skip
    text = page(records, {"name": EVIL, EVIL: EVIL}, [MaskPicture((EVIL,), EVIL, ("#",))], EVIL)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "script" not in checked(text).seen


def test_it_is_written_to_its_place(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "report.html", pair(1), {"name": "digits"})
    assert (tmp_path / "new" / "report.html").read_text().startswith("<!doctype html>")


def test_runs_that_have_not_ended_are_named() -> None:
    told = "2 of 4 runs have not ended, and are not on this page yet: transfusion, seed 2, chameleon, seed 2."
    assert told in page(pair(1), {}, awaited=["transfusion, seed 2", "chameleon, seed 2"])
    assert "1 of 3 runs has not ended, and is not" in page(pair(1), {}, awaited=["x, seed 2"])
    assert "not ended" not in page(pair(1), {})


def test_a_page_without_runs_is_an_error() -> None:
    with pytest.raises(TransfuseError, match="no run to report on"):
        page([], {})


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_show_values_and_say_so(seeds: int) -> None:
    text = page(pair(seeds), {"name": "digits"})
    assert "differences are hints, not findings" in text
    assert "interval, " not in text
    assert " · ".join(f"{95 + 0.1 * n:.1f}\u00a0%" for n in range(seeds)) in text


def test_three_seeds_have_intervals_and_a_paired_verdict() -> None:
    said = " ".join(sentences(by_entry(pair(3))))
    assert "Difference, chameleon minus transfusion: −15.0\u00a0points" in said
    assert "excludes zero" in said
    assert "hints" not in said
    assert "95.1\u00a0%" in page(pair(3), {})


@pytest.mark.parametrize("entries", [("transfusion", "chameleon"), ("mine;mask=causal", "mine;mask=full")])
def test_a_comparison_begins_with_what_a_difference_may_come_from(entries: tuple[str, str]) -> None:
    """Whatever is compared, on whatever data, before any figure; and how to check it."""
    runs = [run(entry, seed, 0.9 - 0.1 * n) for n, entry in enumerate(entries) for seed in range(3)]
    lines = re.findall(r"<p>(.*?)</p>", page(runs, {"name": "mine"}))
    assert lines[0].startswith("Recipes as shipped were not tuned equally, and this page does not know")
    assert "a difference may be one of tuning, not of method" in lines[0]
    assert not re.search(r"digits|chameleon|transfusion", lines[0])
    (axis,) = re.findall(r"--axis (\S+), then", lines[0])
    assert len(read_axes([axis])["train.lr"]) > 2
    assert "Prompted images" in lines[1]


def test_one_recipe_alone_is_no_comparison() -> None:
    assert "tuned equally" not in page([run("transfusion", seed) for seed in range(3)], {})


def test_a_difference_within_the_noise_is_undecided() -> None:
    values = {"transfusion": (0.9, 0.91, 0.92), "chameleon": (0.92, 0.90, 0.91)}
    runs = [run(entry, seed, value) for entry, all_ in values.items() for seed, value in enumerate(all_)]
    assert "includes zero: undecided" in " ".join(sentences(by_entry(runs)))
    assert "(zero included)" in page(runs, {})


def test_equal_figures_are_the_same_not_undecided() -> None:
    text = page(pair(3), {})
    assert ">the same<" in text


def test_at_the_classifiers_ceiling_nobody_is_ranked() -> None:
    assert "can rank nobody" in " ".join(sentences(by_entry(pair(3, 0.98, 0.975))))
    assert "can rank nobody" not in " ".join(sentences(by_entry(pair(3, 0.98, 0.8))))


def test_a_diverged_run_is_named_not_averaged() -> None:
    runs = [run("transfusion", 0), run("transfusion", 1, nan), run("chameleon", 0), run("chameleon", 1)]
    assert "transfusion has no figure for some seed" in " ".join(sentences(by_entry(runs)))
    assert "90.0\u00a0% · –" in page(runs, {})


def test_runs_that_share_no_seed_are_not_compared() -> None:
    runs = [run("transfusion", seed) for seed in range(3)] + [run("chameleon", seed) for seed in range(3, 6)]
    assert "Difference" not in " ".join(sentences(by_entry(runs)))


def test_many_entries_are_said_by_their_range() -> None:
    runs = [run(f"transfusion;loss.image={n}", 0, 0.5 + n / 20) for n in range(5)]
    said = " ".join(sentences(by_entry(runs)))
    assert "from 50.0\u00a0% (transfusion;loss.image=0) to 70.0\u00a0% (transfusion;loss.image=4)" in said
    assert title([r.entry for r in runs], "digits") == "5 recipes on digits"
    checked(page(runs, {}))


def test_a_record_with_nothing_but_a_metric_makes_a_page() -> None:
    bare = RunRecord(entry="a", recipe="a", seed=0, metrics={"new_metric": 3.0})
    text = page([bare], {})
    checked(text)
    assert "new metric" in text
    assert all(f"<h2>{head}</h2>" not in text for head in ("Samples", "Masks", "Learning curves"))


def test_losses_of_unlike_units_are_drawn_apart() -> None:
    units = {"transfusion": "squared error", "chameleon": "nats"}
    runs = [
        run(entry, 0, facts={"loss_units": {"image": unit, "text": "nats"}}) for entry, unit in units.items()
    ]
    text = page(runs, {})
    assert text.count('class="chart"') == 3
    assert page(pair(1), {}).count('class="chart"') == 2


def test_wrong_images_and_texts_are_marked() -> None:
    text = page([run("transfusion", 0)], {})
    assert re.search(r'alt="seven, read as one"[^>]*class="plot wrong"', text)
    assert "✗ six" in text
    assert "is seven" in text
    right = run("transfusion", 0, samples=(drew("seven", "seven"), drew("six"), wrote("six", "six")))
    assert 'wrong"' not in page([right], {})
    words = page([run("transfusion", 0, samples=(drew("seven", "thick", mistaken=False),))], {})
    assert 'wrong"' not in words
    assert "Marked:" not in words
    assert 'alt="seven: thick"' in words
    assert "✓ six" in page([right], {})


def test_texts_from_nothing_are_neither_right_nor_wrong() -> None:
    alone = wrote("once upon", None).model_copy(update={"given": (), "task": "text"})
    text = page([run("transfusion", 0, samples=(alone,))], {})
    assert "once upon" in text
    assert not re.search("[✓✗]", text)


def test_each_task_has_its_samples_beside_what_the_documents_have() -> None:
    series = [
        drew(prompt).model_copy(
            update={"task": "text->series", "made": Shown(role="series", drawing=data_uri(prompt))}
        )
        for prompt in ("rising", "falling")
    ]
    alone = Sample(task="series", made=Shown(role="series", drawing=data_uri("alone")))
    text = page([run("transfusion", seed, samples=(*series, alone)) for seed in range(2)], {})
    checked(text)
    assert re.findall("<h3>(.*?)</h3>", text) == ["text-&gt;series", "series"]
    for drawing in ("rising", "falling", "alone"):
        assert text.count(data_uri(drawing)) == 2  # a seed each
    assert text.count(IMAGE) == 2  # what is real, a row a prompt, once for all seeds


def test_what_was_not_measured_says_why_once_for_all_seeds() -> None:
    text = page([run("transfusion", seed, faults={"fid": "it has no weights"}) for seed in (0, 1)], {})
    assert text.count("it has no weights") == 1
    assert "<b>fid</b> of transfusion, seed 0, 1: it has no weights" in text


def test_every_setting_is_there_and_those_that_differ_are_marked() -> None:
    text = page(pair(1), {})
    assert re.search(r'<tr class="unlike"><th scope="row">loss.image</th><td>5</td><td>1</td>', text)
    assert re.search(r'<tr><th scope="row">model.dim</th><td>128</td><td>128</td>', text)


def test_the_method_names_codec_time_versions_seeds_and_command() -> None:
    text = page(pair(2), {"name": "digits", "licence": "CC BY"}, command="transfuse compare --seeds 0,1")
    for said in ("12.0 s (transfusion)", "torch 2.13", "chameleon: 0, 1", "--seeds 0,1", "licence: CC BY"):
        assert said in text


def test_each_figure_is_explained_where_it_is_shown_and_details_are_folded() -> None:
    text = page([run("transfusion", 0, metrics=dict.fromkeys([one.name for one in FIGURES], 1.0))], {})
    for one in FIGURES:
        assert str(join(one.meaning)) in text
    main, folded = text.split("<details>")[:2]
    assert ("Loss" in main, ">Loss" in folded) == (False, True)


@pytest.mark.parametrize(
    ("value", "whole", "text"),
    [
        (0, False, "0"),
        (0.012345, False, "0.0123"),
        (1.5, False, "1.50"),
        (14.04, False, "14.0"),
        (1234.5, True, "1,234"),
        (2.5e12, False, "2.5 × 10¹²"),
        (5.68e-5, False, "5.68 × 10⁻⁵"),
        (-0.5, False, "-0.500"),
    ],
)
def test_numbers(value: float, whole: bool, text: str) -> None:
    assert number(value, whole) == text


def test_figures_stand_as_recorded_details_last_and_unknown_ones_by_their_name() -> None:
    names = ["new_metric", *(one.name for one in FIGURES)]
    known = figures_of([run("transfusion", 0, metrics=dict.fromkeys(names, 1.0))])
    assert list(known) == [
        "train_flops", "generation_accuracy", "classifier_accuracy", "new_metric", "loss[text->image]",
    ]  # fmt: skip
    assert known["new_metric"].title == "new metric"
    accuracy, flops = known["generation_accuracy"], known["train_flops"]
    assert show(accuracy, None) == "–"
    assert show_difference(accuracy, -0.0004) == "0.0\u00a0points"
    assert show_difference(accuracy, 0.1) == "+10.0\u00a0points"
    assert show_difference(flops, -2.5) == "−2.50"


def test_tags_escape_children_and_attributes_once() -> None:
    assert tag("p", "a < b", class_="x\"'") == '<p class="x&quot;&#x27;">a &lt; b</p>'
    assert tag("p", [tag("b", "&"), None, Html("<i>")]) == "<p><b>&amp;</b><i></p>"
    assert tag("line", stroke_width=2, viewbox="0 0") == '<line stroke-width="2" viewBox="0 0"/>'
    assert tag("details", open=True, id=None) == "<details open></details>"
    assert tag("meta", name="viewport") == '<meta name="viewport">'


def test_flat_settings() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}) == {
        "a.b": 1,
        "a.c.d": [1, {"e": 2}],
        "f": {},
    }
    assert flat({}) == {}
