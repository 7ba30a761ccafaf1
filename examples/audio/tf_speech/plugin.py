"""What this package brings: speech as a modality, spoken dates, a metric, and a recipe for them."""

from transfuse.plugin import Part, Settings, hookimpl

from tf_speech.data import Dates, DateSettings
from tf_speech.metric import HeardAsAsked
from tf_speech.speech import Speech, SpeechSettings
from tf_speech.spoken import Spoken, SpokenSettings


@hookimpl
def transfuse_modalities():
    return [Part("speech", SpeechSettings, Speech, "speech as log-mel spectrograms, written as WAV")]


@hookimpl
def transfuse_datasets():
    return [
        Part("dates", DateSettings, Dates, "372 spoken dates with their words"),
        Part("spoken", SpokenSettings, Spoken, "spoken digits, for a model that knows pictures of them"),
    ]


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
    digits = {
        "summary": "words and pictures of digits, small, to be given speech",
        "extends": "transfusion",
        "modalities": {"text": {"vocab": 280}, "image": {"codec": "pixel", "patcher": {"patch": 4}}},
        "model": {"dim": 64, "layers": 3, "heads": 4},
        "train": {"flops": 2e11, "budget": 256, "lr": 4e-3},
    }
    spoken = {
        "summary": "words, pictures of digits, and speech",
        "extends": "small-digits",
        "modalities": {"speech": {"kind": "speech"}},
        "loss": {"speech": 5},
        "eval": {"prompts": 100, "trained": 0},
    }
    return {"recipes": {"dates": recipe, "small-digits": digits, "spoken-digits": spoken}}
