"""What plugins give is checked where it enters core: every mistake is one line that names part, plugin and method."""
# ruff: noqa: E501 (a mistake and what is said of it stand on one line)

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transfuse.checkpoints import restore_codecs, save_codecs
from transfuse.config.parts import Part, Settings
from transfuse.documents import Item, View
from transfuse.errors import TransfuseError
from transfuse.generation import generate
from transfuse.modalities import seam
from transfuse.modalities.codec import Codec, GridModality
from transfuse.modalities.loss import Loss
from transfuse.modalities.modality import Modality, Span
from transfuse.model.model import Model
from transfuse.plugin import hookimpl
from transfuse.randomness import Key
from transfuse.registry.plugin_contents import PluginIdentity, read
from transfuse.registry.plugins import Plugins
from transfuse.sequences.batch import collate
from transfuse.sequences.layout import Layout
from transfuse.sequences.rows import join
from transfuse.sequences.vocabulary import vocabulary_for
from transfuse.testing.modalities import Blob, Letters, document
from transfuse.training.counts import flops

from tests.tiny.models import Kit

FILE = r"\(tests/core/test_seam\.py, line \d+\)"


def live(kit: Kit, folder: Path, blob: Modality, letters: Modality | None = None) -> list[Any]:
    """All that core does with a modality: it is built into a model, trained on, sampled, saved and made again."""
    modalities = {"letters": letters or Letters(), "blob": blob}
    _ = Layout(modalities, vocabulary_for(modalities)).columns
    model = kit.model(modalities=modalities)
    row = join([model.layout.sequence(document("ab", [1.0, 2.0], id=i)) for i in range(2)])
    batch = collate(row, model.modalities, Key(0))
    sum(loss.sum for loss in model.losses(batch).values()).backward()
    flops(model, row)
    model.predictable[:] = True
    made = generate(model, [document("a"), document("b")], want="blob", seed=1)
    generate(model, [document("a")], want="letters", tokens=2)
    save_codecs(folder, modalities)
    fresh = copy.deepcopy(modalities)
    restore_codecs(folder, fresh)
    return [one.items[-1].data for one in made]


def liar(of: type, **methods: Any) -> Any:
    made = type("Liar", (of,), methods)()
    made.sizes = (2,)
    return made


def raising(error: Exception) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> Any:
        raise error

    return method


def giving(value: Any) -> Callable[..., Any]:
    return lambda self, *_, **__: value


def embedded(change: Callable[[Tensor], Any]) -> Callable[..., Any]:
    return lambda self, x_t, t: (change(Blob.embed(self, x_t, t)[0]), None)


def corrupted(**changes: Callable[[Tensor], Any]) -> Callable[..., Any]:
    def corrupt(self: Any, *given: Any) -> tuple:
        found = dict(zip(("x_t", "t", "target"), Blob.corrupt(self, *given), strict=True))
        return tuple(changes[name](found[name]) if name in changes else found[name] for name in found)

    return corrupt


def scored(change: Callable[[Loss], Any], of: type = Blob) -> Callable[..., Any]:
    return lambda self, *given: change(of.objective(self, *given))


def spanned(*fixed: Any, **changes: Any) -> Callable[..., Any]:
    """Spans with these fields; a function of the payload is called."""

    def spans(self: Any, item: Item, payload: np.ndarray) -> list[Span]:
        values = {name: v(payload) if callable(v) else v for name, v in changes.items()}
        usual = {
            "payload": payload,
            "length": len(payload),
            "label": str(len(payload)),
            "noised": item.noised,
        }
        return [Span(**{**usual, **values})]

    return spans


def asking(x_t: Callable[[Tensor], Any] = lambda x: x, t: Callable[[Tensor], Any] = lambda t: t) -> Any:
    def sample(self: Any, evaluate: Any, label: str, generators: list) -> Tensor:
        x = torch.zeros(len(generators), int(label))
        return evaluate(x_t(x), t(torch.ones(len(x))))[0]

    return sample


BLOBS: Mapping[str, tuple[dict[str, Any], str]] = {
    # what is stated before a model is there
    "columns None": ({"columns": giving(None)}, "columns returned None: it must be a mapping"),
    "columns a list": ({"columns": giving(["frame"])}, r"columns returned \['frame'\]: it must be a mapping"),
    "columns of other values": ({"columns": giving({"frame": -1})}, r"columns returned \{'frame': -1\}: it must be a mapping of names to Column"),
    "labels None": ({"labels": giving(None)}, "labels returned None: it must be a tuple of distinct texts"),
    "labels a text": ({"labels": giving("23")}, "labels returned '23': it must be a tuple"),
    "labels numbers": ({"labels": giving((2, 3))}, r"labels returned \(2, 3\)"),
    "labels twice": ({"labels": giving(("2", "2"))}, "labels returned .* distinct"),
    "labels empty": ({"labels": giving(())}, r"item 1 \(blob\): .*spans returned '2' as a label, and labels\(\) had \(\) when"),
    "a label that labels lacks": ({"labels": giving(("3",))}, r"spans returned '2' as a label, and labels\(\) had \('3',\) when .*: fit\(\) must find all"),
    "views of text": ({"views": ("letters",)}, r"views is \('letters',\): it must be a tuple of View"),
    "views no tuple": ({"views": View()}, "views is View"),
    "views of a role that is not": ({"views": (View({"leters"}),)}, "drops 'leters', .* did you mean 'letters'"),
    "clean_time missing": ({"clean_time": property(raising(AttributeError("clean_time")))}, "clean_time raised Attr"),
    "clean_time a text": ({"clean_time": "0"}, "clean_time is '0': it must be a number"),
    "clean_time NaN": ({"clean_time": float("nan")}, "clean_time is nan"),
    "flops negative": ({"flops": giving(-1.0)}, "flops returned -1.0: it must be a number from 0 on"),
    "flops NaN": ({"flops": giving(float("nan"))}, "flops returned nan"),
    "flops None": ({"flops": giving(None)}, "flops returned None"),
    "flops a tensor": ({"flops": giving(torch.ones(()))}, r"flops returned \[\]"),
    "facts None": ({"facts": giving(None)}, "facts returned None: it must be a dict that JSON can hold"),
    "facts an array": ({"facts": giving({"a": [np.zeros(2)]})}, r"facts\(\)\['a'\]\[0\] is array.*, which JSON has not"),
    "facts a numpy integer": ({"facts": giving({"a": np.int64(3)})}, r"facts\(\)\['a'\] is np.int64\(3\), which JSON"),
    "facts a set": ({"facts": giving({"a": {1}})}, r"facts\(\)\['a'\] is \{1\}, which JSON"),
    "facts NaN": ({"facts": giving({"a": {"b": float("nan")}})}, r"facts\(\)\['a'\]\['b'\] is nan, which JSON has not"),
    "facts infinite": ({"facts": giving({"a": -float("inf")})}, r"facts\(\)\['a'\] is -inf"),
    "facts by number": ({"facts": giving({"a": {4: 1}})}, r"facts\(\)\['a'\] has the key 4, which JSON has not"),
    "facts raise": ({"facts": raising(KeyError("loss"))}, f"facts raised KeyError: 'loss' {FILE}"),
    "connect raises": ({"connect": raising(ZeroDivisionError())}, f"connect raised ZeroDivisionError {FILE}"),
    "connect forgets": ({"connect": giving(None)}, "embed raised AttributeError: .*'into'"),
    # codec and layout
    "encode None": ({"encode": giving(None)}, r"item 1 \(blob\): .*encode returned None: it must be a numpy array"),
    "encode a list": ({"encode": giving([1.0])}, r"encode returned \[1.0\]: it must be a numpy array of numbers"),
    "encode a tensor": ({"encode": giving(torch.ones(2))}, r"encode returned \[2\]: it must be a numpy array"),
    "encode objects": ({"encode": giving(np.array([{}, {}]))}, r"encode returned \[2\] of object: .* of numbers"),
    "encode float64": ({"encode": giving(np.ones(2))}, r"encode returned \[2\] of float64: return float32"),
    "encode integers": ({"encode": giving(np.ones(2, np.int64))}, r"corrupt returned \[2, 2\] of float32 as x_t of 2 spans: it must be int64"),
    "encode raises": ({"encode": raising(IndexError("out"))}, rf"test 0: item 1 \(blob\): modality 'blob': .* {FILE}"),
    "blank None": ({"blank": giving(None)}, "blank returned None: it must be a numpy array of numbers"),
    "blank missing": ({"blank": Modality.blank}, "blank raised NotImplementedError: labels.. names '2', and blank.. is not written"),
    "blank float64": ({"blank": giving(np.zeros(2))}, r"blank returned \[2\] of float64: return float32"),
    "blank of another shape": (
        {"blank": lambda self, label: np.zeros(int(label) + 1, np.float32)},
        r"blank\('2'\) is laid out with the label '3'",
    ),
    "decode None": ({"decode": giving(None)}, "decode returned None: it must be raw data"),
    "decode raises": ({"decode": raising(OSError("disk"))}, f"decode raised OSError: disk {FILE}"),
    "spans None": ({"spans": giving(None)}, "spans returned None: it must be a list of Span, at least one"),
    "spans empty": ({"spans": giving([])}, r"spans returned \[\]"),
    "spans a span": ({"spans": giving(Span(np.zeros(2, np.float32), 2, "2"))}, "spans returned a Span: .*: it must be a list"),
    "spans dicts": ({"spans": giving([{"length": 2}])}, r"spans returned \[\{'length': 2\}\]"),
    "spans of length 0": ({"spans": spanned(length=0)}, "spans returned 0 as a span's length: .* from 1 on"),
    "spans of length 2.0": ({"spans": spanned(length=2.0)}, "spans returned 2.0 as a span's length"),
    "spans of lists": ({"spans": spanned(payload=list)}, r"spans returned \[.*\] as a span's payload: it must be a numpy"),
    "spans of float64": ({"spans": spanned(payload=lambda x: x.astype(float))}, "spans returned .* of float64: return float32"),
    "spans without label": ({"spans": spanned(label=None)}, "spans returned .* without a label: nothing could begin it"),
    "spans noised where the item is not": ({"spans": spanned(noised=True)}, "spans returned .* of an item that is not: say noised=item.noised"),
    "a column of floats": (
        {"columns": giving({"at": seam.Column.ID}), "spans": spanned(columns=lambda x: {"at": np.ones(len(x) + 2)})},
        r"spans returned \[4\] of float64 as column 'at': it holds whole numbers",
    ),
    "a column as a list": (
        {"columns": giving({"at": seam.Column.ID}), "spans": spanned(columns=lambda x: {"at": [1, 2, 3, 4]})},
        r"spans returned \[1, 2, 3, 4\] as column 'at'",
    ),
    "positions None": ({"positions": giving(None)}, r"positions returned None: it must be \(positions, cursor\)"),
    "positions too few": (
        {"positions": lambda self, span, cursor: (np.arange(span.length), cursor + 9)},
        r"positions returned \[2\] of int64 for 4 positions",
    ),
    "positions of floats": (
        {"positions": lambda self, span, cursor: (np.linspace(0, 1, span.positions), cursor + 9)},
        r"positions returned \[4\] of float64 for 4 positions",
    ),
    "the cursor goes back": (
        {"positions": lambda self, span, cursor: (np.arange(span.positions), cursor - 1)},
        "positions returned 0 as the cursor after 1: it must not go back",
    ),
    "the cursor a float": (
        {"positions": lambda self, span, cursor: (np.arange(span.positions), cursor + 4.0)},
        "positions returned 5.0 as the cursor",
    ),
    # in the model
    "corrupt None": ({"corrupt": giving(None)}, r"corrupt returned None: it must be \(x_t, t, target\)"),
    "corrupt a pair": ({"corrupt": giving((1, 2))}, r"corrupt returned \(1, 2\): it must be \(x_t, t, target\)"),
    "corrupt another shape": ({"corrupt": corrupted(x_t=lambda x: x[:, :1])}, r"corrupt returned \[2, 1\] as x_t of 2 spans"),
    "corrupt one time": ({"corrupt": corrupted(t=lambda t: t[:1])}, r"corrupt returned \[1\] as t of 2 spans"),
    "corrupt times of float64": ({"corrupt": corrupted(t=Tensor.double)}, r"returned \[2\] of float64 as t of 2 spans: it must be float32"),
    "corrupt times of NaN": ({"corrupt": corrupted(t=lambda t: t * torch.nan)}, r"returned \[nan, nan\] as t: times must be finite"),
    "corrupt a target of arrays": ({"corrupt": corrupted(target=Tensor.numpy)}, r"corrupt returned \[2, 2\] of float32 as target"),
    "corrupt elsewhere": ({"corrupt": corrupted(x_t=lambda x: x.to("meta"))}, r"corrupt returned \[2, 2\] on meta as x_t of 2 spans, which are on cpu"),
    "embed None": ({"embed": giving(None)}, r"embed returned None: it must be \(vectors, state\)"),
    "embed vectors alone": ({"embed": lambda self, x, t: Blob.embed(self, x, t)[0]}, r"embed returned \[2, 2, 32\]: it must be"),
    "embed another length": ({"embed": embedded(lambda x: x[:, :1])}, r"embed returned \[2, 1, 32\] for 2 spans of 2 positions of width 32$"),
    "embed another width": ({"embed": embedded(lambda x: x[..., :9])}, r"embed returned \[2, 2, 9\] for 2 spans of 2 positions of width 32"),
    "embed one span": ({"embed": embedded(lambda x: x[:1])}, r"embed returned \[1, 2, 32\] for 2 spans"),
    "embed integers": ({"embed": embedded(Tensor.long)}, r"embed returned \[2, 2, 32\] of int64 for 2 spans .*: it must be floating"),
    "embed elsewhere": ({"embed": embedded(lambda x: x.to("meta"))}, r"embed returned \[2, 2, 32\] on meta for 2 spans .*, which are on cpu"),
    "embed takes no time": ({"embed": lambda self, x: (x, None)}, "embed raised TypeError: .*positional argument"),
    "embed raises": ({"embed": lambda self, x, t: nn.Linear(3, 4)(x)}, rf"^modality 'blob': embed raised RuntimeError: mat1 and mat2 .* {FILE}$"),
    "head None": ({"head": giving(None)}, "head returned None: it must be a tensor"),
    "head of other spans": ({"head": lambda self, h, s, t: h[:1, :, 0]}, r"head returned \[1, 2\] for 2 spans"),
    "head integers": ({"head": lambda self, h, s, t: h[..., 0].long()}, r"head returned \[2, 2\] of int64 for 2 spans: it must be floating"),
    "objective None": ({"objective": giving(None)}, "objective returned None: it must be a Loss, a sum with its count"),
    "objective a tensor": ({"objective": scored(lambda x: x.sum)}, r"objective returned \[\]: it must be a Loss"),
    "objective not summed": ({"objective": lambda self, p, y, t: Loss((p - y) ** 2, 2.0)}, r"objective returned \[2, 2\] as the sum of a loss, which is one number"),
    "objective a float": ({"objective": scored(lambda x: Loss(float(x.sum.detach()), x.count))}, "objective returned .* as the sum of a loss"),
    "objective detached": ({"objective": scored(lambda x: Loss(x.sum.detach(), x.count))}, "as a sum without a graph: nothing would learn"),
    "objective counts numbers": ({"objective": scored(lambda x: Loss(x.sum, 4.0))}, "objective returned 4.0 as the count of 2 spans: add up the mean of each"),
    "objective counts NaN": ({"objective": scored(lambda x: Loss(x.sum, float("nan")))}, "objective returned nan as the count of 2 spans"),
    "objective counts None": ({"objective": scored(lambda x: Loss(x.sum, None))}, "objective raised TypeError"),
    "sample None": ({"sample": giving(None)}, "sample returned None: it must be a tensor"),
    "sample an array": ({"sample": giving(np.zeros((2, 2), np.float32))}, r"sample returned \[2, 2\] of float32: it must be a tensor"),
    "sample one": ({"sample": giving(torch.zeros(1, 2))}, r"sample returned \[1, 2\] of float32 for \[2, 2\] of float32"),
    "sample another shape": ({"sample": giving(torch.zeros(2, 1, 2))}, r"sample returned \[2, 1, 2\] of float32 for \[2, 2\] of float32"),
    "sample float64": ({"sample": giving(torch.zeros(2, 2).double())}, r"sample returned \[2, 2\] of float64: return float32"),
    "sample bfloat16": ({"sample": giving(torch.zeros(2, 2).bfloat16())}, "sample raised TypeError: .*BFloat16"),
    "sample integers": ({"sample": giving(torch.zeros(2, 2).long())}, r"sample returned \[2, 2\] of int64 for \[2, 2\] of float32"),
    "sample NaN": ({"sample": giving(torch.full((2, 2), torch.nan))}, "sample returned .* of '2' with NaN or Inf"),
    "sample asks for one": ({"sample": asking(x_t=lambda x: x[:1])}, r"sample gave \[1, 2\] as x_t to evaluate: it must be \[2, 2\] on cpu"),
    "sample asks of another shape": ({"sample": asking(x_t=lambda x: x[..., None])}, r"sample gave \[2, 2, 1\] as x_t to evaluate"),
    "sample asks at one time": ({"sample": asking(t=lambda t: t[0])}, r"sample gave \[\] as t to evaluate: it must be \[2\]"),
    "sample asks at a number": ({"sample": asking(t=lambda t: 0.5)}, r"sample gave 0.5 as t to evaluate: it must be \[2\] on cpu"),
    "restore raises": ({"restore": raising(KeyError("sizes"))}, rf"codecs\.json: modality 'blob': restore raised KeyError: 'sizes' {FILE}$"),
}  # fmt: skip


@pytest.mark.parametrize("what", BLOBS)
def test_what_a_span_modality_gets_wrong_is_one_line(kit: Kit, tmp_path: Path, what: str) -> None:
    methods, message = BLOBS[what]
    with pytest.raises(TransfuseError, match=message) as caught:
        live(kit, tmp_path, liar(Blob, **methods))
    assert "\n" not in str(caught.value)
    assert "modality 'blob'" in str(caught.value)


LETTERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "codes 0": ({"codes": 0}, "codes is 0: it must be a whole number from 1 on"),
    "codes None": ({"codes": None}, "codes is None"),
    "codes 8.0": ({"codes": 8.0}, "codes is 8.0"),
    "codes without @property": ({"codes": lambda self: 8}, "codes is <bound method .*>: it must be a whole number"),
    "encode None": ({"encode": giving(None)}, r"item 0 \(letters\): .*encode returned None"),
    "encode a list": ({"encode": giving([1, 2])}, r"encode returned \[1, 2\]: it must be a numpy array of numbers"),
    "spans of a grid": ({"spans": lambda self, item, x: [Span(x[:, None], len(x), grouped=False)]}, r"spans returned \[2, 1\] of int64 as the ids of a span of 2"),
    "spans of another length": ({"spans": lambda self, item, x: [Span(x, 9, grouped=False)]}, r"spans returned \[2\] of int64 as the ids of a span of 9"),
    "spans of others' ids": ({"spans": lambda self, item, x: [Span(x + 8, len(x), grouped=False)]}, r"spans returned \[2\] of int64 as ids, which are not all of 0 … 7"),
    "objective a mean": ({"objective": scored(lambda x: Loss(x.sum, 1.0), Letters)}, r"objective returned 1.0 as the count of \d+ tokens: add them up"),
    "objective None": ({"objective": giving(None)}, "objective returned None: it must be a Loss"),
    "choose None": ({"choose": giving(None)}, "choose raised TypeError: 'NoneType' object"),
    "choose a float": ({"choose": giving(3.0)}, "choose raised TypeError"),
    "choose logits": ({"choose": lambda self, logits, generator, left: logits}, "choose raised TypeError"),
    "choose nothing there is": ({"choose": giving(10_000)}, "choose returned 10000, which may not stand here"),
    "choose what is forbidden": ({"choose": giving(0)}, "choose returned 0, which may not stand here: its logit is -inf"),
    "decode None": ({"decode": giving(None)}, "decode returned None: it must be raw data"),
}  # fmt: skip


@pytest.mark.parametrize("what", LETTERS)
def test_what_a_token_modality_gets_wrong_is_one_line(kit: Kit, tmp_path: Path, what: str) -> None:
    methods, message = LETTERS[what]
    with pytest.raises(TransfuseError, match=message) as caught:
        live(kit, tmp_path, Blob(), liar(Letters, **methods))
    assert "\n" not in str(caught.value)
    assert "modality 'letters'" in str(caught.value)


@pytest.mark.parametrize(
    "methods",
    [
        {},
        {"spans": lambda self, item, payload: (span for span in Blob.spans(self, item, payload))},
        {"labels": lambda self: ["2"]},
        {"facts": giving({"a": [1, 2.5, None, True, "b", (3,)]})},
        {"objective": scored(lambda x: Loss(x.sum[None], int(x.count)))},
        {"flops": giving(0)},
        {"embed": lambda self, x, t: [*Blob.embed(self, x, t)]},
        {"corrupt": lambda self, *given: [*Blob.corrupt(self, *given)]},
        {"positions": lambda self, span, cursor: [*Blob.positions(self, span, cursor)]},
    ],
    ids=[
        "the usual",
        "spans a generator",
        "labels a list",
        "facts a tuple",
        "a sum [1]",
        "flops 0",
        "embed a list",
        "corrupt a list",
        "positions a list",
    ],
)
def test_what_is_as_good_is_taken(kit: Kit, tmp_path: Path, methods: dict[str, Any]) -> None:
    assert [len(one) for one in live(kit, tmp_path, liar(Blob, **methods))] == [2, 2]


def test_an_id_may_be_a_tensor_of_one_whole_number(kit: Kit, tmp_path: Path) -> None:
    letters = liar(Letters, choose=lambda self, logits, generator, left: logits[0].argmax())
    live(kit, tmp_path, Blob(), letters)


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("noise_share", 0.5, "noise_share returned 0.5: it must be a tensor"),
        ("suffixes", (), r"suffixes is \(\): it must be a tuple of endings such as '.npy', in small letters"),
        ("suffixes", ".npy", "suffixes is '.npy'"),
        ("suffixes", (1,), r"suffixes is \(1,\)"),
        ("suffixes", ("npy",), "suffixes is .*'.npy', in small letters"),
        ("suffixes", (".NPY",), "suffixes is .*'.npy', in small letters"),
        ("load", None, "load returned None: it must be raw data"),
        ("draw", 3, "draw returned 3: it must be SVG as text, a PNG as bytes, or None"),
        ("draw", "a circle", "draw returned 'a circle': it must be SVG"),
        ("draw", b"GIF89a", "draw returned b'GIF89a': it must be SVG"),
    ],
)
def test_what_files_and_drawings_must_be(method: str, value: Any, message: str) -> None:
    attribute = value if method in seam.ATTRIBUTES else giving(value)
    with pytest.raises(TransfuseError, match=f"^modality 'blob': {message}"):
        seam.call(liar(Blob, **{method: attribute}), method)


@pytest.mark.parametrize("noised", [True, False])
def test_an_item_without_loss_has_no_span_that_is_predicted(noised: bool) -> None:
    for part, payload in ((Blob(), np.ones(2, np.float32)), (Letters(), np.ones(2, np.int64))):
        item = Item(part.name, None, loss=False, noised=noised)
        assert seam.spans(part, item, payload)
        always = type("Liar", (type(part),), {"spans": spanned(loss=True)})()
        if noised or isinstance(part, Letters):
            with pytest.raises(TransfuseError, match=r"spans returned .* that has none: say loss=item\.loss"):
                seam.spans(always, item, payload)
        else:
            assert seam.spans(always, item, payload)


def test_what_is_only_shown_needs_no_label_and_tokens_are_never_noised() -> None:
    shown = type("Shown", (Blob,), {"spans": spanned(label=None, loss=False)})()
    assert seam.spans(shown, Item("blob", None, noised=False), np.ones(2, np.float32))
    assert seam.spans(shown, Item("blob", None), np.ones(2, np.float32))
    tokens = type("Noised", (Letters,), {"spans": spanned(label=None, noised=True, payload=np.copy)})()
    assert seam.spans(tokens, Item("letters", None, noised=False), np.ones(2, np.int64))


def test_a_loss_needs_a_graph_only_where_something_can_learn() -> None:
    detached = liar(Blob, objective=scored(lambda x: Loss(x.sum.detach(), x.count)))
    given = torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2)
    assert seam.score(detached, *given).mean == 1
    with torch.no_grad():
        assert seam.score(detached, given[0].requires_grad_(), *given[1:]).mean == 1
    with pytest.raises(TransfuseError, match="without a graph"):
        seam.score(detached, *given)


# -- whose fault it is


def test_the_cause_is_kept_and_interrupts_are_not_touched() -> None:
    cause = RuntimeError("two\nlines")
    with pytest.raises(TransfuseError, match="embed raised RuntimeError: two lines") as caught:
        seam.call(liar(Blob, embed=raising(cause)), "embed", 1)
    assert caught.value.__cause__ is cause
    for other in (KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(other)):
            seam.call(liar(Blob, embed=raising(other)), "embed", 1)  # type: ignore[arg-type]
    own = TransfuseError("the data hold 3 axes, not 2")
    with pytest.raises(TransfuseError) as caught:
        seam.call(liar(Blob, embed=raising(own)), "embed", 1)
    assert caught.value is own


def test_the_place_is_the_innermost_code_that_is_no_librarys() -> None:
    """Not torch's, numpy's, Python's or core's, though that raised; nothing where no other code is there."""

    def helper(x: Any) -> Any:
        return nn.Linear(2, 2)(x)

    line = helper.__code__.co_firstlineno + 1
    with pytest.raises(TransfuseError, match=rf"\(tests/core/test_seam\.py, line {line}\)$"):
        seam.call(liar(Blob, embed=lambda self, x: helper(x)), "embed", torch.zeros(1, 3))
    with pytest.raises(TransfuseError, match=r"encode raised ValueError: could not convert .*: 'abc'$"):
        seam.call(Blob(), "encode", "abc")


def test_a_long_message_is_cut() -> None:
    with pytest.raises(TransfuseError) as caught:
        seam.call(liar(Blob, embed=raising(ValueError("x" * 9999))), "embed", 1)
    assert len(str(caught.value)) < 500


class Plain(Settings):
    pass


def series(**parts: Part) -> Plugins:
    """Plugins of one distribution, tf-series 0.1, with a part of each kind given."""
    module = ModuleType("tf_series")
    for kind, part in parts.items():

        def hook(part: Part = part) -> list[Part]:
            return [part]

        hook.__name__ = f"transfuse_{kind}"
        setattr(module, hook.__name__, hookimpl(lambda part=part: [part], specname=hook.__name__))
    return Plugins([read(module, PluginIdentity("series", "tf-series", "0.1"))])


def test_a_part_knows_its_plugin_and_so_does_what_it_builds() -> None:
    built = series(modalities=Part("series", Plain, lambda settings, name: liar(Blob, encode=giving(None))))
    chosen = built.choose("modality", {"kind": "series"})
    assert chosen.part.plugin == "tf-series 0.1"
    for role, who in (("series", "tf-series 0.1"), ("signal", "series of tf-series 0.1")):
        made = chosen.build(name=role)
        with pytest.raises(TransfuseError, match=rf"^modality '{role}' \({who}\): encode returned None"):
            seam.payload(made, "encode", 1)
        assert seam.title(copy.deepcopy(made)) == seam.title(made)
    assert seam.title(Blob()) == "modality 'blob'"
    assert seam.title(SimpleNamespace()) == "SimpleNamespace"


def test_a_plugin_of_no_distribution_is_named_as_one() -> None:
    module = ModuleType("here")
    module.transfuse_codecs = hookimpl(lambda: [Part("raw", Plain, lambda s: SimpleNamespace())], specname="transfuse_codecs")  # type: ignore[attr-defined]  # fmt: skip
    made = Plugins.of({"here": module}).choose("codec", "raw").build()
    assert seam.title(made) == "codec 'raw' (plugin 'here')"


def test_what_building_raises_names_part_and_plugin() -> None:
    plugins = series(codecs=Part("raw", Plain, lambda settings: 1 / 0))
    with pytest.raises(
        TransfuseError,
        match=rf"^codec 'raw' \(tf-series 0\.1\): building it raised ZeroDivisionError: .* {FILE}$",
    ):
        plugins.choose("codec", "raw").build()


def test_a_codec_inside_a_modality_is_named_itself() -> None:
    def codec(settings: Plain) -> Codec:
        grids = {"fit": giving(None), "restore": giving(None), "facts": giving({}), "grid": giving((1, 1))}
        return liar(Codec, encode=giving(np.zeros((1, 1, 1))), decode=giving(None), **grids)

    made = series(codecs=Part("raw", Plain, codec)).choose("codec", "raw").build()
    rest = dict.fromkeys(("connect", "spans"), giving(None))
    grid = type("Grid", (GridModality,), rest)("image", made)
    who = r"^codec 'raw' \(tf-series 0\.1\)"
    with pytest.raises(
        TransfuseError, match=rf"{who}: encode returned \[1, 1, 1\] of float64: return float32"
    ):
        grid.encode(1)
    with pytest.raises(TransfuseError, match=rf"{who}: decode returned None"):
        grid.decode(np.zeros(1))
    for method, given in (("fit", ([np.zeros(1)], 0, print)), ("restore", ({"codec": {}, "sizes": []},))):
        setattr(made, method, raising(LookupError("x")))
        with pytest.raises(TransfuseError, match=rf"{who}: {method} raised LookupError: x"):
            getattr(grid, method)(*given)


def test_any_part_can_be_called_so(kit: Kit) -> None:
    """Metrics are, in the lab."""

    class Bright:
        def compute(self, evaluation: Any) -> Any:
            return evaluation["pictures"]

    assert seam.call(Bright(), "compute", {"pictures": 3}) == 3
    with pytest.raises(TransfuseError, match=rf"^Bright: compute raised KeyError: 'pictures' {FILE}$"):
        seam.call(Bright(), "compute", {})


def test_the_seam_costs_a_step_nothing_one_can_measure(kit: Kit) -> None:
    """Of a step's work it adds a fixed handful of calls a group of spans, whatever the group holds."""
    model: Model = kit.model(modalities={"letters": Letters(), "blob": Blob()})
    counted = []
    for documents in (2, 40):
        row = join([model.layout.sequence(document("ab", [1.0, 2.0], id=i)) for i in range(documents)])
        batch = collate(row, model.modalities, Key(0))
        calls: list[str] = []

        def heard(
            part: Any, method: str, *args: Any, calls: list = calls, own: Any = seam.call, **kwargs: Any
        ) -> Any:
            calls.append(method)
            return own(part, method, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(seam, "call", heard)
            model.losses(batch)
        counted.append(calls)
    assert counted[0] == counted[1] == ["embed", "objective", "head", "objective"]


def test_messages_of_the_brief_by_eye(kit: Kit, tmp_path: Path) -> None:
    wrong = liar(Blob, embed=embedded(lambda x: torch.cat([x, x[:, :1]], 1)))
    with pytest.raises(TransfuseError) as caught:
        live(kit, tmp_path, wrong)
    assert str(caught.value) == (
        "modality 'blob': embed returned [2, 3, 32] for 2 spans of 2 positions of width 32"
    )
    assert not re.search("Traceback", str(caught.value))
