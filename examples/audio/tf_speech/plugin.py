"""What this package brings: speech as a modality, spoken dates, a metric, and a recipe for them."""

from transfuse.plugin import Part, Settings, hookimpl

from tf_speech.data import Dates, DateSettings
from tf_speech.metric import HeardAsAsked
from tf_speech.speech import Speech, SpeechSettings


@hookimpl
def transfuse_modalities():
    return [Part("speech", SpeechSettings, Speech, "speech as log-mel spectrograms, written as WAV")]


@hookimpl
def transfuse_datasets():
    return [Part("dates", DateSettings, Dates, "372 spoken dates with their words")]


@hookimpl
def transfuse_metrics():
    return [Part("heard_as_asked", Settings, lambda settings: HeardAsAsked(), "speech matched to recordings")]


@hookimpl
def transfuse_registry():
    recipe = {
        "summary": "words and speech",
        "modalities": {"text": {"kind": "text", "vocab": 400}, "speech": {"kind": "speech"}},
        "mask": "bidirectional",
        "loss": {"text": 1, "speech": 5},
        "model": {"dim": 128, "layers": 4, "heads": 4},
        "train": {"flops": 6e12, "budget": 768, "lr": 3e-3},
        "eval": {"prompts": 75, "trained": 0},
    }
    return {"recipes": {"dates": recipe}}
