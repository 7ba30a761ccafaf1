"""What holds of a modality or a codec before any model: raw data to payloads and back, files, facts."""

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from transfuse.errors import TransfuseError
from transfuse.modalities import seam
from transfuse.modalities.modality import Modality
from transfuse.testing.kits.raw_case import RawDataCase, is_raw, off, shown, shown_apart
from transfuse.testing.kits.runner import Kit, LeftOut, expect, global_randomness_untouched

RAW_DATA: Kit[RawDataCase] = Kit("modality")
FILES, EXACT = 0.01, 1e-6
"""So far, as a share of their spread, raw data may be from what was saved, where files round (PNG), and elsewhere."""


@RAW_DATA.check(
    "change encode and decode so that raw data are a string or a numeric array: several parts are columns of one, or"
    " items of two roles"
)
def raw_data_are_text_or_numbers(at: RawDataCase) -> None:
    """Raw data are a string or a numeric array."""
    strange = next((raw for raw in at.raws if not is_raw(raw)), None)
    seen = f"it was handed data of type {type(strange).__name__}, which cannot be hashed, packed or compared"
    expect(strange is None, seen)


@RAW_DATA.check("change fit and encode so that what fit has seen of the training split can be encoded")
def fitting_makes_it_take_the_raw_data(at: RawDataCase) -> None:
    """Once it was fit to raw data it encodes them."""
    expect(len(at.payloads) == len(at.raws), "some raw data were not encoded")


@RAW_DATA.check("change fit so that all it draws comes from the seed that it is given")
def fitting_is_fixed_by_its_seed(at: RawDataCase) -> None:
    """Two of the same settings, fit with one seed, are equal."""
    facts, states = zip(
        *((seam.facts(m), _state(m)) for m in (at.fit(at.unfit()) for _ in "ab")), strict=True
    )
    expect(facts[0] == facts[1], "two of them, fit to the same data with the same seed, have other facts")
    same = states[0].keys() == states[1].keys() and all(states[0][k].equal(states[1][k]) for k in states[0])
    expect(same, "two of them, fit to the same data with the same seed, have other weights")


@RAW_DATA.check(
    "change fit so that it draws from a generator of its own, torch.Generator().manual_seed(seed)"
)
def fitting_leaves_global_randomness_alone(at: RawDataCase) -> None:
    """fit draws nothing from a global random state."""
    fresh = at.unfit()
    with global_randomness_untouched():
        at.fit(fresh)


@RAW_DATA.check("change fit so that it works on copies of the raw data")
def fitting_leaves_raw_data_as_they_are(at: RawDataCase) -> None:
    """fit writes nothing into the raw data."""
    raws = deepcopy(at.raws)
    at.fit(at.unfit(), raws)
    changed = [shown(raw) for raw, kept in zip(raws, at.raws, strict=True) if off(raw, kept)]
    expect(not changed, f"fit changed {', '.join(changed[:2])} in place")


@RAW_DATA.check("change fit so that it keeps what it needs again: kept = list(raws)", of=Modality)
def fitting_goes_through_raw_data_once(at: RawDataCase) -> None:
    """fit takes an iterator, which is over after once, as training hands it over."""
    once, listed = at.fit(at.unfit(), iter(deepcopy(at.raws))), at.fit(at.unfit())
    expect(seam.facts(once) == seam.facts(listed), "fit to an iterator it has other facts than fit to a list")


@RAW_DATA.check("change encode so that it returns an array with at least one element, all of them finite")
def payloads_are_finite_numbers(at: RawDataCase) -> None:
    """A payload is a numpy array of finite numbers."""
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        expect(payload.size, f"encode made nothing of {shown(raw)}")
        expect(np.isfinite(payload).all(), f"encode made NaN or infinity of {shown(raw)}")


@RAW_DATA.check(
    "change encode so that it rests on its argument alone: no random numbers, no state that it changes"
)
def encoding_twice_is_the_same(at: RawDataCase) -> None:
    """encode is a function of the raw data."""
    for raw, first in zip(at.raws, at.payloads, strict=True):
        again = seam.payload(at.fitted, "encode", raw)
        same = first.dtype == again.dtype and np.array_equal(first, again)
        expect(same, f"encode gave two payloads of {shown(raw)}")


@RAW_DATA.check("change encode so that it works on a copy (raw.astype(np.float32) makes one)")
def encoding_leaves_raw_data_as_they_are(at: RawDataCase) -> None:
    """encode writes nothing into the raw data."""
    for raw in at.raws:
        kept = deepcopy(raw)
        seam.payload(at.fitted, "encode", raw)
        expect(off(raw, kept) == 0, f"encode changed {shown(raw)} in place")


@RAW_DATA.check("change encode so that it raises TransfuseError saying what raw data must be")
def what_is_no_raw_data_is_refused(at: RawDataCase) -> None:
    """encode does not take an object of no kind for raw data."""
    try:
        found = at.fitted.encode(object())
    except Exception:
        return
    expect(False, f"encode made {shown(found)} of object()")


@RAW_DATA.check(
    "change encode so that it raises TransfuseError for raw data of a shape that decode could not give back",
    ability="round trip",
)
def other_shapes_are_refused_or_come_back(at: RawDataCase) -> None:
    """Raw data of another axis, or a little shorter, are refused, or are decoded to that shape."""
    for raw in at.arrays():
        for other in (raw[None], raw[..., :-1]):
            back = at.back(other) if other.size else None
            seen = f"{shown(other)} is taken without a word, and comes back as {shown(back)}"
            expect(back is None or np.shape(back) == other.shape, seen)


@RAW_DATA.check("change encode so that it raises TransfuseError for letters that it would lose, or say does_not"
                " = {'round trip': reason}", ability="round trip")  # fmt: skip
def other_letters_are_refused_or_come_back(at: RawDataCase) -> None:
    """Texts of letters that fit has not seen are refused, or are decoded to themselves."""
    texts = [raw for raw in at.raws if isinstance(raw, str)][:3]
    if not texts:
        raise LeftOut("its raw data are no texts")
    for text in (other for raw in texts for other in (raw.swapcase(), raw + "é☃")):
        back = at.back(text)
        there, here = shown_apart(text, back)
        expect(back is None or back == text, f"{there} is taken without a word, and is {here}")


@RAW_DATA.check("change encode so that it raises TransfuseError for NaN, or leaves it for core to see")
def nan_does_not_vanish(at: RawDataCase) -> None:
    """encode makes no finite payload of raw data that hold NaN."""
    for raw in at.arrays():
        bad = raw.copy()
        bad.flat[0] = np.nan
        try:
            payload = seam.payload(at.fitted, "encode", bad)
        except TransfuseError:
            continue
        expect(not np.isfinite(payload).all(), f"encode made finite numbers of {shown(raw)} with a NaN")


@RAW_DATA.check("change encode and decode so that they draw nothing, or from a torch.Generator of their own")
def the_codec_leaves_global_randomness_alone(at: RawDataCase) -> None:
    """encode and decode draw nothing from a global random state."""
    at.fitted  # noqa: B018, what it is fit with is checked elsewhere
    with global_randomness_untouched():
        for raw in at.raws[:2]:
            seam.call(at.fitted, "decode", seam.payload(at.fitted, "encode", raw))


@RAW_DATA.check(
    "change decode so that it is the inverse of encode, state the error as round_trip_error, or say does_not"
    " = {'round trip': reason}",
    ability="round trip",
)
def decoding_inverts_encoding(at: RawDataCase) -> None:
    """decode gives back what was encoded, within the error that it states (``round_trip_error``)."""
    stated = at.fitted.round_trip_error
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        back = seam.call(at.fitted, "decode", payload)
        far, (there, here) = off(back, raw), shown_apart(raw, back)
        seen = f", off by {far:.2g} where {stated:g} is stated" if np.isfinite(far) else ""
        expect(far <= stated, f"{there} came back as {here}{seen}")


@RAW_DATA.check("change decode so that it works on a copy of the payload")
def decoding_leaves_payloads_as_they_are(at: RawDataCase) -> None:
    """decode writes nothing into the payload."""
    for payload in at.payloads:
        kept = payload.copy()
        seam.call(at.fitted, "decode", payload)
        expect(np.array_equal(payload, kept), f"decode changed {shown(payload)} in place")


@RAW_DATA.check("change decode so that other payloads are decoded to other raw data")
def decoding_heeds_the_payload(at: RawDataCase) -> None:
    """Not all payloads of a shape are decoded to the same."""
    shapes: dict[Any, list[np.ndarray]] = {}
    for payload in at.payloads:
        shapes.setdefault(payload.shape, []).append(payload)
    differ = [those for those in shapes.values() if any(not np.array_equal(p, those[0]) for p in those)]
    if not differ:
        raise LeftOut(f"of the {len(at.payloads)} payloads at hand no two are of one shape and differ")
    for those in differ:
        made, *rest = (seam.call(at.fitted, "decode", payload) for payload in those)
        expect(any(off(other, made) for other in rest), f"{len(those)} payloads are decoded to one")


@RAW_DATA.check(
    "change decode so that it gives what encode takes, of the same type and shape as the raw data"
)
def what_is_decoded_can_be_encoded(at: RawDataCase) -> None:
    """What decode gives is raw data again, and of the same shape."""
    for payload in at.payloads:
        again = seam.payload(at.fitted, "encode", seam.call(at.fitted, "decode", payload))
        expect(
            again.shape == payload.shape, f"a payload {list(payload.shape)} came back as {list(again.shape)}"
        )


@RAW_DATA.check("change save, load and suffix_for so that load(path) is what save(raw, path) was given")
def files_give_back_what_was_saved(at: RawDataCase) -> None:
    """load is the inverse of save, and suffix_for is one of suffixes."""
    suffixes = seam.call(at.fitted, "suffixes")
    with tempfile.TemporaryDirectory() as folder:
        for raw in at.raws[:3]:
            suffix = seam.call(at.fitted, "suffix_for", raw)
            expect(suffix in suffixes, f"suffix_for gave {suffix!r}, and suffixes are {suffixes}")
            path = Path(folder) / f"raw{suffix}"
            seam.call(at.fitted, "save", raw, path)
            found = seam.call(at.fitted, "load", path)
            most = EXACT if suffix in (".npy", ".txt") else FILES
            there, here = shown_apart(raw, found)
            expect(off(found, raw) <= most, f"{there}, saved as {suffix}, was loaded as {here}")


@RAW_DATA.check("change load so that it raises TransfuseError naming the file where that holds no such data")
def damaged_files_are_refused_in_a_line(at: RawDataCase) -> None:
    """load of an empty file, or of random bytes, gives raw data or raises TransfuseError, and nothing else."""
    random = np.random.default_rng(0).bytes(99)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in seam.call(at.fitted, "suffixes"):
            for what, content in {"an empty file": b"", "a file of random bytes": random}.items():
                path = Path(folder) / f"raw{suffix}"
                path.write_bytes(content)
                try:
                    at.fitted.load(path)
                except Exception as error:
                    name = type(error).__name__
                    expect(isinstance(error, TransfuseError), f"load of {what} ({suffix}) raised {name}")


@RAW_DATA.check("change draw so that it returns SVG as text, a PNG as bytes, or None")
def raw_data_are_drawn(at: RawDataCase) -> None:
    """draw gives a drawing, or None."""
    for raw in at.raws[:2]:
        seam.call(at.fitted, "draw", raw)


@RAW_DATA.check("change facts so that it is a dict of what JSON holds: texts, numbers, lists and dicts")
def facts_are_json(at: RawDataCase) -> None:
    """facts come back from JSON as they were, and are the same each time."""
    facts = seam.facts(at.fitted)
    back = json.loads(json.dumps(facts))
    seen = f"facts() is {str(facts)[:60]}, and comes back from JSON as {str(back)[:60]}"
    expect(json.dumps(back, sort_keys=True) == json.dumps(seam.facts(at.fitted), sort_keys=True), seen)


@RAW_DATA.check(
    "change facts and restore so that restore(facts()) sets all that fit found, but for saved weights"
)
def facts_and_weights_restore_it(at: RawDataCase) -> None:
    """One that was never fit, given the facts through JSON and the saved weights, encodes and decodes alike."""
    fresh = at.unfit()
    seam.call(fresh, "restore", json.loads(json.dumps(seam.facts(at.fitted))))
    fresh.load_state_dict(_state(at.fitted))
    for raw, payload in zip(at.raws, at.payloads, strict=True):
        again = seam.payload(fresh.eval(), "encode", raw)
        expect(np.array_equal(again, payload), f"restored, it encodes {shown(raw)} otherwise")
        there, here = (seam.call(m, "decode", payload) for m in (fresh, at.fitted))
        expect(off(there, here) < 1e-6, f"restored, it decodes {shown(payload)} otherwise")


@RAW_DATA.check(
    "change train so that it is the base class's, and encode so that it does not ask: a codec is frozen"
)
def it_stays_frozen_in_training(at: RawDataCase) -> None:
    """train() changes nothing of what it encodes."""
    at.payloads  # noqa: B018, fit first
    at.fitted.train()
    again = [seam.payload(at.fitted, "encode", raw) for raw in at.raws]
    at.fitted.eval()
    for raw, payload, other in zip(at.raws, at.payloads, again, strict=True):
        expect(np.array_equal(other, payload), f"in training it encodes {shown(raw)} otherwise")


@RAW_DATA.check("change fit so that it freezes what it trained: p.requires_grad_(False) for its parameters")
def nothing_is_trained_before_it_is_connected(at: RawDataCase) -> None:
    """Before connect all weights are a codec's, which is frozen."""
    loose = [name for name, p in at.fitted.named_parameters() if p.requires_grad]
    expect(not loose, f"after fit these would be trained with the model: {', '.join(loose[:4])}")


def _state(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
