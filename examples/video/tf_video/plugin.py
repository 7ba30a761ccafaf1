"""What this package brings: frames as a modality, clips, a metric of next frames, and a recipe for them."""

from transfuse.plugin import Part, Settings, hookimpl

from tf_video.data import Clips, ClipSettings
from tf_video.frame import Frame, FrameSettings
from tf_video.metric import FrameError


@hookimpl
def transfuse_modalities():
    return [Part("frame", FrameSettings, Frame, "a frame of a clip, predicted from those before it")]


@hookimpl
def transfuse_datasets():
    return [Part("clips", ClipSettings, Clips, "moving digits of 4 to 8 frames, with captions")]


@hookimpl
def transfuse_metrics():
    return [
        Part("frame_error", Settings, lambda settings: FrameError(), "error of a next frame, and of none")
    ]


@hookimpl
def transfuse_registry():
    recipe = {
        "summary": "words and clips, frame by frame",
        "modalities": {"text": {"kind": "text", "vocab": 280}, "frame": {"kind": "frame"}},
        "mask": "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))",
        "loss": {"text": 1, "frame": 20},
        "model": {"dim": 64, "layers": 4, "heads": 4, "rope": ["pos", "row", "column"], "rope_theta": 100},
        "train": {"flops": 1.5e12, "budget": 768, "lr": 4e-3},
        "eval": {"prompts": 200},
    }
    return {"recipes": {"clips": recipe}}
