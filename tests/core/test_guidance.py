"""Guidance: the chain by hand, where it applies, what each view holds, and that a scale of 1 costs nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.config.merge import merge
from transfuse.config.validation import InvalidSettings, validate
from transfuse.documents import Document, Item, View
from transfuse.errors import TransfuseError
from transfuse.generation.decoding import generate
from transfuse.modalities.guidance import GuidanceSettings, all_views, check_views
from transfuse.modalities.modality import Evaluate
from transfuse.testing.modalities import Blob, Letters, document

from tests.tiny.models import Kit, captioned, picture
from tests.tiny.strange_modalities import Probe, Scripted
from tests.tiny.streams import Written, watch

TWO = {"views": [{"drop": ["text"], "scale": 4}, {"drop": ["text", "image"], "scale": 1.5}]}
C, U, W = (torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))


def settings(**section: Any) -> GuidanceSettings:
    return validate(GuidanceSettings, section)


class Fake(Evaluate):
    """Set predictions; counts how many it was asked for."""

    def __init__(self, *views: Tensor) -> None:
        self.views, self.asked = views, []

    def __call__(self, x_t: Tensor, t: Tensor, guided: bool = True) -> list[Tensor]:
        self.asked.append(len(self.views) if guided else 1)
        return list(self.views[: self.asked[-1]])


def test_the_chain_by_hand() -> None:
    """BAGEL's order: the first view is applied first (arXiv 2505.14683, its code)."""
    once = U + 4 * (C - U)
    torch.testing.assert_close(settings(**TWO).mix([C, U, W]), W + 1.5 * (once - W))
    torch.testing.assert_close(settings(scale=2).mix([C, U]), U + 2 * (C - U))
    torch.testing.assert_close(settings().mix([C, U]), U + 3 * (C - U))


def test_views_of_scale_1_are_left_out() -> None:
    assert settings(scale=1).views_dropped == ()
    one, two = ({"drop": ["text"], "scale": s} for s in (1, 2))
    assert settings(views=[one]).views_dropped == ()
    assert settings(views=[one, {"scale": 3}]).views_dropped == (View(),)
    assert settings(views=[two]).views_dropped == (View(frozenset({"text"})),)
    fake = Fake(C)
    made = settings(scale=1).denoiser(fake, lambda t: t)(C, torch.full((3,), 0.5))
    assert (fake.asked, made is C) == ([1], True)


def test_equal_views_leave_the_prediction_as_it_is() -> None:
    made = settings(**TWO, rescale=0.7).denoiser(Fake(C, C, C), lambda t: t)(C, torch.full((3,), 0.5))
    torch.testing.assert_close(made, C)


def test_the_interval_is_one_of_shares_and_outside_only_the_document_is_evaluated() -> None:
    fake = Fake(C, U)
    denoise = settings(scale=2, interval=[0.2, 0.6]).denoiser(fake, lambda t: t / 1000)
    for t, guided in ((100, False), (200, True), (400, True), (600, True), (601, False)):
        made = denoise(C, torch.full((3,), float(t)))
        torch.testing.assert_close(made, 2 * C - U if guided else C)
    assert fake.asked == [1, 2, 2, 2, 1]
    mixed = denoise(C, torch.tensor([100.0, 300.0, 700.0]))
    torch.testing.assert_close(mixed, torch.stack([C[0], 2 * C[1] - U[1], C[2]]))


def test_rescale_brings_back_the_spread() -> None:
    """arXiv 2305.08891, eq. 15 and 16, a span at a time."""
    at = torch.full((3,), 0.5)
    guided = U + 5 * (C - U)
    for share in (0.0, 0.7, 1.0):
        made = settings(scale=5, rescale=share).denoiser(Fake(C, U), lambda t: t)(C, at)
        for i in range(3):
            whole = guided[i] * C[i].std() / guided[i].std()
            torch.testing.assert_close(made[i], share * whole + (1 - share) * guided[i])
    assert float(made[0].std()) == pytest.approx(float(C[0].std()), rel=1e-5)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"scale": 2, "views": [{"scale": 3}]}, "takes one of scale and views"),
        ({"interval": [0.6, 0.2]}, "interval: must rise"),
        ({"views": [{"scale": 2}, {"drop": [], "scale": 3}]}, r"views\[1\].drop: is what another view drops"),
        ({"views": [{"drop": ["text"]}]}, r"views\[0\].scale: is missing"),
        ({"views": [{"drop": "text", "scale": 2}]}, r"views\[0\].drop: should be a list"),
        ({"rescale": 2}, "rescale: .*less than or equal to 1"),
        ({"scael": 2}, "scael: unknown key, did you mean 'scale'"),
    ],
)
def test_settings_that_cannot_be(section: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        settings(**section)


def test_scale_and_views_clear_each_other() -> None:
    assert merge({"scale": 3, "rescale": 0.1}, TWO) == {**TWO, "rescale": 0.1}
    assert merge(TWO, {"scale": 2}) == {"scale": 2}


def test_a_role_that_is_not_there_is_named_with_the_nearest() -> None:
    blob = Blob()
    blob.views = (View(frozenset({"lettres"})),)
    with pytest.raises(
        TransfuseError, match=r"modality 'blob': .* drops 'lettres', .* did you mean 'letters'"
    ):
        check_views({"letters": Letters(), "blob": blob})


def test_the_views_of_all_modalities_are_one_list() -> None:
    one, two = Blob("one"), Blob("two")
    one.views, two.views = (View(), View(frozenset({"one"}))), (View(frozenset({"two"})), View())
    assert all_views({"one": one, "two": two, "letters": Letters()}) == (
        View(), View(frozenset({"one"})), View(frozenset({"two"})),
    )  # fmt: skip


# -- in decoding

LETTERS, BLOBS = View(frozenset({"letters"})), View(frozenset({"blob"}))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """What is kept in each view's stream."""
    return watch(monkeypatch)


@pytest.mark.parametrize("views", [(), (View(),), (LETTERS, View()), (BLOBS, LETTERS, View())])
def test_each_view_is_laid_out_as_the_document_without_what_it_drops(
    kit: Kit, written: Written, views: tuple[View, ...]
) -> None:
    """Text that the model says is droppable, an image that it makes is not; 1- to 4-way."""
    blob = Blob(sizes=(3,))
    blob.views = views
    script = Scripted([])
    model = kit.model(modalities={"letters": script, "blob": blob}).eval()
    model.predictable[:] = True
    v = model.vocabulary
    begin, a = v.marker("<blob 3>"), v.range("letters").start
    script.script = [a + 1, a + 2, begin, a + 3, begin, v.marker("</document>")]
    answer = [0.3, -0.7, 0.1]
    probe = Probe(torch.ones(1, 3), torch.tensor([0.5]), torch.tensor([answer]))
    model.modalities["blob"].sample = probe  # type: ignore[assignment]
    prompt = document(
        Item("letters", "ab", droppable=True), Item("blob", [1.0, 2.0, 3.0], droppable=True), [0.5, 0.6, 0.7],
        Item("letters", "c"),
    )  # fmt: skip
    (made,) = generate(model, [prompt])
    assert [item.modality for item in made.items[4:]] == ["letters", "blob", "letters", "blob"]
    assert [item.droppable for item in made.items[4:]] == [True, False, True, False]
    assert len(written) == 1 + len(views)
    assert [len(seen) for seen in probe.seen] == [1 + len(views)] * 2
    for stream, view in enumerate((View(frozenset()), *views)):
        clean = tuple(Item(i.modality, i.data, noised=False) for i in made.seen(view).items)
        whole = model.layout.sequence(Document(clean))
        for name in ("pos", "item", "letters"):
            assert written[stream, 0][name] == whole.columns[name][:-1].tolist(), (view, name)
        assert written[stream, 0]["tokens"] == whole.tokens[:-1].tolist(), view


def test_a_modality_without_guidance_is_evaluated_alone_though_another_has_some(kit: Kit) -> None:
    one, two = Blob("one", sizes=(3,)), Blob("two", sizes=(3,))
    one.views = (View(),)
    model = kit.model(modalities={"letters": Letters(), "one": one, "two": two}).eval()
    model.predictable[:] = True
    for name, number in (("one", 2), ("two", 1)):
        probe = Probe(torch.ones(1, 3), torch.tensor([0.5]), torch.zeros(1, 3))
        model.modalities[name].sample = probe  # type: ignore[assignment]
        generate(model, [document(Item("letters", "ab", droppable=True))], want=name)
        assert [len(seen) for seen in probe.seen] == [number]


def images(kit: Kit, guidance: dict[str, Any], **sampler: Any) -> np.ndarray:
    section = {"name": "ddim", "evaluations": 4, **sampler}
    parts = {"text": kit.modality("text"), "image": kit.modality("image", guidance=guidance, sampler=section)}
    model = kit.model(modalities=parts, layers=2).eval()
    model.predictable[:] = True
    model.predictable[model.vocabulary.marker("<image 4x4>")] = False
    first = captioned(1)
    shown = Item("image", picture(9, 4), droppable=True, noised=False)
    prompts = [Document((shown, first.items[0])), Document(first.items[:1])]
    return np.stack([d.items[-1].data for d in generate(model, prompts, want="image", seed=2)])


def test_scale_1_everywhere_is_no_guidance_and_views_matter(kit: Kit) -> None:
    plain = images(kit, {"scale": 1})
    ones = {"views": [{"drop": ["text"], "scale": 1}, {"drop": ["image"], "scale": 1}]}
    np.testing.assert_array_equal(images(kit, ones), plain)
    two = {"views": [{"drop": ["text"], "scale": 4}, {"drop": ["text", "image"], "scale": 1.5}]}
    both = images(kit, two)
    assert np.abs(both - plain).max() > 1e-3
    one = images(kit, {"views": two["views"][:1]})
    assert np.abs(both[0] - one[0]).max() > 1e-4  # its prompt has an image to drop
    outside = images(kit, {**two, "interval": [1, 1]})  # DDPM's shares are below 1
    np.testing.assert_allclose(outside, plain, atol=1e-5)


def test_one_view_that_drops_text_is_the_usual_one_where_only_text_may_go(kit: Kit) -> None:
    usual, named = images(kit, {"scale": 3}), images(kit, {"views": [{"drop": ["text"], "scale": 3}]})
    np.testing.assert_array_equal(usual[1], named[1])
    assert np.abs(usual[0] - named[0]).max() > 1e-4
