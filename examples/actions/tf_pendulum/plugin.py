"""What this package brings: states and chunks of actions, an expert's episodes, a metric, and a recipe for them."""

from transfuse.plugin import Part, Settings, hookimpl

from tf_pendulum.chunk import Actions, ChunkSettings, State
from tf_pendulum.data import Pendulum, PendulumSettings
from tf_pendulum.metric import ActionError


@hookimpl
def transfuse_modalities():
    return [
        Part("actions", ChunkSettings, Actions, "chunks of actions, diffused whole"),
        Part("state", ChunkSettings, State, "what is sensed, given to what is done"),
    ]


@hookimpl
def transfuse_datasets():
    return [Part("pendulum", PendulumSettings, Pendulum, "an expert's episodes on Pendulum-v1, in two tasks")]


@hookimpl
def transfuse_metrics():
    return [
        Part("action_error", Settings, lambda settings: ActionError(), "how far actions are off the expert's")
    ]


@hookimpl
def transfuse_registry():
    recipe = {
        "summary": "words, a state, and a chunk of actions",
        "modalities": {
            "text": {"kind": "text", "vocab": 280},
            "state": {"kind": "state"},
            "action": {"kind": "actions"},
        },
        "mask": "same(doc) & (le(idx) | same(rank))",
        "loss": {"text": 1, "state": 0, "action": 5},
        "model": {"dim": 64, "layers": 3, "heads": 4},
        "train": {"flops": 2e12, "budget": 512, "lr": 3e-3, "drop": 0, "ema": 0.99},
        "eval": {"prompts": 200},
    }
    return {"recipes": {"pendulum": recipe}}
