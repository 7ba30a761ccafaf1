"""Kits: checks are small, named and curable; no built-in part and no stranger's fails; the classes and the command."""

import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfuse.attention import BUILT_IN
from transfuse.datasets import content_hash
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.modalities.modality import Modality, SpanModality, TokenModality
from transfuse.modalities.objective import SpanObjective, TokenObjective
from transfuse.registry.plugins import Plugins
from transfuse.testing import (
    ATTENTION,
    CODEC,
    DATASET,
    METRIC,
    MODALITY,
    OBJECTIVE,
    SAMPLER,
    AttentionTests,
    CodecTests,
    DataSetCase,
    DataSetTests,
    Failed,
    Kit,
    LeftOut,
    MetricTests,
    ModalityCase,
    ModalityTests,
    ObjectiveCase,
    ObjectiveTests,
    RawDataCase,
    SamplerCase,
    SamplerTests,
    expect,
)
from transfuse.testing.kits.raw_case import shown_apart
from transfuse.testing.kits.runner import Check
from transfuse.testing.modalities import Blob, Letters
from transfuse_lab.commands import check_plugin
from transfuse_lab.datasets import open_data
from transfuse_lab.datasets.digits import Digits

from tests.testing.fresh_liars import FRESH
from tests.testing.liars import EVALUATION, Numbers, Right
from tests.testing.liars import KINDS as LYING
from tests.tiny.models import SECTIONS, WORDS, picture
from tests.tiny.strange_modalities import MaskedIds, Skip, Twins

NAMED = {
    "MODALITY": MODALITY, "CODEC": CODEC, "OBJECTIVE": OBJECTIVE, "SAMPLER": SAMPLER, "ATTENTION": ATTENTION,
    "DATASET": DATASET, "METRIC": METRIC,
}  # fmt: skip
KITS: dict[str, Kit[Any]] = {kit.part: kit for kit in NAMED.values()}
BAGEL = "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))"
CAUSAL = "same(doc) & le(idx)"
NUMBERS = [
    np.random.default_rng(i).normal(size=n).astype(np.float32).tolist() for i, n in enumerate((2, 3, 3, 2))
]
SERIES = [np.sin(np.arange(n) / 3).astype(np.float32) for n in (16, 24, 16, 24)]
PICTURES = [picture(i) for i in range(5)]
WIDE = {"kind": "image", "codec": {"name": "kl", "width": 8, "steps": 5}}
UNET = {"kind": "image", "codec": "pixel", "patcher": {"name": "unet", "width": 8}}
MASKED = {"kind": "masked_vq", "codec": {"name": "vq", "codes": 16, "width": 8, "steps": 5}}


@pytest.mark.parametrize("kit", KITS.values(), ids=list(KITS))
def test_checks_are_named_short_and_say_what_to_change(kit: Kit) -> None:
    names = [check.name for check in kit.checks]
    assert len(set(names)) == len(names)
    for check in kit.checks:
        source = inspect.getsource(check.run)
        body = source[source.index("def ") :].splitlines()
        assert len(body) <= 15, f"{check.name} has {len(body)} lines"
        assert re.fullmatch(r"\S.+\.", check.law), f"{check.name} says no law: {check.law!r}"
        assert re.match(r"change \w+", check.cure), check.cure


def test_there_are_forty_checks_of_a_modality_of_either_kind() -> None:
    spans = MODALITY.of(ModalityCase(Blob(), NUMBERS))
    ids = MODALITY.of(ModalityCase(Letters(), ["ab"]))
    assert len(spans) >= 60
    assert len(ids) >= 40


def test_kits_need_neither_pytest_nor_hypothesis() -> None:
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None; "
        "from transfuse.testing import MODALITY, ATTENTION, same_mask; import transfuse_lab.commands.check_plugin; "
        "print(len(MODALITY.checks))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) > 60


# -- no false alarm


def complaints(kit: Kit, case: Any, *, compiled: bool = False) -> list[str]:
    """What a kit finds wrong; without the check that takes seconds, unless it is asked for."""
    checks = [check for check in kit.of(case) if compiled or check.ability != "compile"]
    return [
        outcome.text for outcome in (check.outcome(case) for check in checks) if outcome.status == "fails"
    ]


OWN: dict[str, tuple[Callable[[], Any], list, str]] = {
    "letters": (Letters, ["abc", "de"], CAUSAL),
    "blobs": (Blob, NUMBERS, BAGEL),
    "blobs inside": (lambda: Blob(inside=True), NUMBERS, BAGEL),
    "a skip around the transformer": (Skip, [[0.1, 0.2, 0.3, 0.5], [1.0, 0.2, 0.1, -1.0]], BAGEL),
    "two copies": (Twins, NUMBERS, BAGEL),
    "masked ids": (MaskedIds, [[1, 2], [3, 0, 4], [2, 2]], BAGEL),
}
BUILT: dict[str, tuple[dict[str, Any], list, str]] = {
    "text": (SECTIONS["text"], list(WORDS), CAUSAL),
    "pixels": (SECTIONS["image"], [picture(i, side) for i in range(3) for side in (4, 8)], BAGEL),
    "latents": (WIDE, [picture(i, 16) for i in range(4)], BAGEL),
    "a U-Net": (UNET, PICTURES, BAGEL),
    "codes": (SECTIONS["image_vq"], PICTURES, CAUSAL),
    "masked codes": (MASKED, PICTURES, BAGEL),
    "series": ({"kind": "series"}, SERIES, BAGEL),
    "series by DDPM": ({"kind": "series", "objective": "ddpm", "sampler": "ddim"}, SERIES, BAGEL),
}


@pytest.mark.parametrize("name", OWN)
def test_no_toy_is_refused(name: str) -> None:
    make, raws, mask = OWN[name]
    assert complaints(MODALITY, ModalityCase(make(), raws, mask)) == []


@pytest.mark.parametrize("name", BUILT)
def test_no_modality_is_refused(name: str, series_plugins: Plugins) -> None:
    section, raws, mask = BUILT[name]
    modality = series_plugins.choose("modality", section).build(name="own")
    assert complaints(MODALITY, ModalityCase(modality, raws, mask), compiled=name == "pixels") == []


@pytest.mark.parametrize(
    "codec", ["pixel", {"name": "kl", "steps": 2}, {"name": "vq", "codes": 16, "steps": 2}, "fsq"]
)
def test_no_codec_is_refused(codec: Any, installed: Plugins) -> None:
    case = RawDataCase(installed.choose("codec", codec).build(), [picture(i, 8) for i in range(4)])
    assert complaints(CODEC, case) == []


@pytest.mark.parametrize("target", ["eps", "x0", "v", "velocity"])
@pytest.mark.parametrize("name", ["ddpm", "flow"])
def test_no_objective_is_refused(name: str, target: str, installed: Plugins) -> None:
    for weight in ("none", "velocity", "min-snr"):
        section = {"name": name, "target": target, "weight": weight}
        assert complaints(OBJECTIVE, ObjectiveCase(installed.choose("objective", section).build())) == []


@pytest.mark.parametrize("name", ["ddim", "euler", "heun"])
def test_no_sampler_is_refused_by_either_objective(name: str, installed: Plugins) -> None:
    sampler = installed.choose("sampler", name).build()
    for objective in ("ddpm", "flow"):
        case = SamplerCase(sampler, installed.choose("objective", objective).build())
        assert complaints(SAMPLER, case) == []


class Varied(Numbers):
    """Arrays vary from visit to visit, and are never in another order."""

    def document(self, split, index, rng=None):
        found = super().document(split, index)
        text, blob = found.items
        varied = blob.data + (0 if rng is None else rng.random(3))
        return Document((text, Item("blob", varied)), found.id, found.source)


def test_what_visits_vary_of_an_array_is_no_other_order() -> None:
    assert complaints(DATASET, DataSetCase(Varied(), Varied())) == []


def test_data_of_several_parts_are_one_failure() -> None:
    class Pairs(Numbers):
        def document(self, split, index, rng=None):
            found = super().document(split, index)
            return Document((Item("pair", ("a", np.arange(3.0) + found.id)),), found.id, found.source)

        def identity(self):
            return {"name": self.name, "content": content_hash(self)}

    (complaint,) = complaints(DATASET, DataSetCase(Pairs(), Pairs()))
    assert complaint.startswith(
        "raw-data-are-text-or-arrays: numbers train 0: data of role 'pair' are of type tuple;"
    )


def test_texts_that_begin_alike_are_shown_where_they_differ() -> None:
    there, here = shown_apart("V" * 90 + "A", "V" * 90 + "B")
    assert "A" in there
    assert "B" in here


# -- the classes, in use


class TestSeries(ModalityTests):
    @pytest.fixture
    def modality(self, series_plugins: Plugins) -> Any:
        return series_plugins.choose("modality", "series").build(name="series")

    @pytest.fixture
    def raws(self) -> list:
        return SERIES


class TestPixels(CodecTests):
    @pytest.fixture
    def codec(self, installed: Plugins) -> Any:
        return installed.choose("codec", "pixel").build()

    @pytest.fixture
    def raws(self) -> list:
        return PICTURES


class TestNextToken(ObjectiveTests):
    @pytest.fixture
    def objective(self, installed: Plugins) -> Any:
        return installed.choose("objective", "next-token", builds=TokenObjective).build()


class TestFlow(ObjectiveTests):
    @pytest.fixture
    def objective(self, installed: Plugins) -> Any:
        return installed.choose("objective", "flow", builds=SpanObjective).build()


class TestEuler(SamplerTests):
    @pytest.fixture
    def sampler(self, installed: Plugins) -> Any:
        return installed.choose("sampler", "euler").build()


class TestTiles(AttentionTests):
    @pytest.fixture
    def backend(self, installed: Plugins) -> Any:
        return installed.choose("attention", "tiles").build()


class TestDense(AttentionTests):
    @pytest.fixture
    def backend(self) -> Any:
        return BUILT_IN["dense"]


class TestDigits(DataSetTests):
    @pytest.fixture(scope="class")
    def data(self, installed: Plugins) -> Any:
        return open_data("digits", installed)


class TestShapes(DataSetTests):
    @pytest.fixture
    def data(self, series_plugins: Plugins) -> Any:
        return open_data("series-pictures", series_plugins)


class TestRight(MetricTests):
    @pytest.fixture
    def metric(self) -> Any:
        return Right()

    @pytest.fixture
    def evaluation(self) -> Any:
        return EVALUATION


def test_a_class_fails_with_the_checks_own_words() -> None:
    class Deaf(Blob):
        def decode(self, payload: np.ndarray) -> list[float]:
            return (2 * payload).tolist()

    check = MODALITY["decoding-inverts-encoding"]
    with pytest.raises(
        pytest.fail.Exception, match=r"^decoding-inverts-encoding: .* came back as .*; change decode so"
    ):
        TestSeries().test_kit.__func__(
            type("Other", (ModalityTests,), {})(), check, ModalityCase(Deaf(), NUMBERS)
        )  # type: ignore[attr-defined]


def test_laws_of_other_kinds_are_no_tests_of_a_class_that_says_what_it_is_of() -> None:
    class OfSpans(ModalityTests, of=SpanModality):
        pass

    class OfTokens(ModalityTests, of=TokenModality):
        pass

    class OfAny(ModalityTests, of=Modality):
        pass

    def checks(one: type[ModalityTests]) -> set[Check]:
        return set(one.test_kit.pytestmark[0].args[1])  # type: ignore[attr-defined]

    assert checks(OfAny) == checks(ModalityTests) == set(MODALITY.checks)
    assert checks(OfSpans) | checks(OfTokens) == set(MODALITY.checks)
    assert SpanModality not in {check.of for check in checks(OfTokens)}
    assert {check for check in MODALITY.checks if check.of is SpanModality} <= checks(OfSpans)
    assert len(checks(OfTokens)) < len(checks(OfSpans))
    case = ModalityCase(Blob(), NUMBERS)
    with pytest.raises(pytest.fail.Exception, match=r"^of=TokenModality, and the part is a Blob$"):
        OfTokens.test_kit(OfTokens(), MODALITY["decoding-inverts-encoding"], case)  # type: ignore[attr-defined]


# -- the runner


class Part:
    does_not = {"fly": "it is heavy"}  # noqa: RUF012


class Holder:
    part = Part()


def test_outcomes_are_of_four_kinds_and_nothing_comes_out() -> None:
    kit: Kit[Any] = Kit("thing")

    @kit.check("change it so that it holds")
    def holds(case: Any) -> None:
        """It holds."""

    @kit.check("change it so that it holds")
    def raises_an_error(case: Any) -> None:
        """It holds."""
        raise KeyError("a")

    @kit.check("change it so that it holds")
    def is_seen(case: Any) -> None:
        """It holds."""
        expect(0, "it does not")

    @kit.check("change it so that it flies", ability="fly")
    def flies(case: Any) -> None:
        """It flies."""
        raise Failed("it fell")

    @kit.check("change it")
    def says_nothing(case: Any) -> None:
        """It holds."""
        raise LeftOut("there is nothing")

    found = {outcome.check: (outcome.status, outcome.text) for outcome in kit.run(Holder())}
    assert found["holds"] == ("ok", "")
    assert found["raises-an-error"][0] == "fails"
    assert re.match(
        r"raises-an-error: it raised KeyError: 'a' .*; change it so that it holds",
        found["raises-an-error"][1],
    )
    assert found["is-seen"] == ("fails", "is-seen: it does not; change it so that it holds")
    assert found["flies"] == ("does not", "fly: it is heavy")
    assert found["says-nothing"] == ("left out", "there is nothing")
    with pytest.raises(TransfuseError, match="has no check 'hold', did you mean 'holds'"):
        kit["hold"]


# -- the command


def test_the_command_checks_every_part_of_a_plugin(cli: Callable, series_installed: None) -> None:
    done = cli("plugins", "check", "series")
    assert done.exit_code == 0, done.stdout
    for part in (
        "modality series, as 'series' of the recipe",
        "data set mirrored",
        "metric shape_accuracy, on text->series",
    ):
        assert part in done.stdout
    assert "\n  holds     decoding-inverts-encoding\n" in done.stdout
    assert re.search(r"^modality series: \d+ holds(, \d+ left out)?$", done.stdout, re.MULTILINE)
    assert "FAILS" not in done.stdout


def test_a_fault_is_a_line_with_its_cure_and_the_exit_code(
    cli: Callable, series_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tf_series.modality

    monkeypatch.setattr(tf_series.modality.Series, "decode", lambda self, payload: payload * 1.5)
    done = cli("plugins", "check", "series", "--data", "series")
    assert done.exit_code == 1
    (line,) = re.findall(r"^  FAILS     (decoding-inverts-encoding: .*)$", done.stdout, re.MULTILINE)
    assert "; change decode so that it is the inverse of encode" in line


def test_parts_that_nothing_can_be_tried_with_are_said(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFUSE_CACHE", str(tmp_path))
    told = cli("plugins", "check", "vq").stdout
    assert "sampler maskgit: left out, since it is of a kind of its own, MaskGIT" in told
    assert "modality masked_vq, as 'image', on digits" in told
    assert "  declared  decoding-inverts-encoding: round trip: what an autoencoder loses" in told
    assert cli("plugins", "check", "serie").stderr.startswith("error: no plugin 'serie' is loaded; ")


def test_data_sets_that_cannot_be_read_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, installed: Plugins
) -> None:
    """As one whose files nobody has fetched: other plugins are checked without it."""

    class Unfetched(Digits):
        def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
            raise TransfuseError("its files are not there")

    found = {"unfetched": Unfetched(), "digits": Digits()}
    monkeypatch.setattr(check_plugin, "open_data", lambda name, plugins: found[name])
    assert list(check_plugin.opened(found, installed)) == [found["digits"]]


# -- the page


def test_the_page_counts_checks_and_liars_and_names_every_ability() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    counts = {kit.part: Counter(checks=len(kit.checks)) for kit in KITS.values()}
    for kit, _, _, lying in LYING.values():
        counts[kit.part]["liars"] += len(lying)
    for liar in FRESH:
        counts[liar.kit.part] += Counter({"fresh": 1, liar.at_first: 1, "now": bool(liar.check)})
    for name, kit in NAMED.items():
        n = counts[kit.part]
        figures = " | ".join(
            str(n[key]) for key in ("checks", "liars", "fresh", "named", "elsewhere", "silent", "now")
        )
        assert re.search(rf"^\| `{name}`, .* \| {re.escape(figures)} \|$", page, re.MULTILINE), (
            f"{name} | {figures} |"
        )
    of = Counter(liar.at_first for liar in FRESH)
    assert f"{of['named']} of {len(FRESH)}, {of['named'] / len(FRESH):.0%}" in page
    for kit in KITS.values():
        assert [ability for ability in kit.abilities if f"`{ability}`" not in page] == []
