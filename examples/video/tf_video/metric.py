"""How far a predicted frame is from the true one, beside what needs no model: the last frame, and it moved on.

The two frames given settle the third, so that a sample has nothing to lose against a mean of samples.
"""

import numpy as np
from transfuse.plugin import AppliesTo, Figure, Metric

DIGIT = 8  # pixels of a digit, and of a step of it
STEPS = [(0, 0), (DIGIT, 0), (-DIGIT, 0), (0, DIGIT), (0, -DIGIT)]


def moved(frame: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    return np.roll(frame, step, axis=(1, 2))


def moved_on(before: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The last frame, moved once more by the step that leads best from the one before to it."""
    return moved(last, min(STEPS, key=lambda step: float(np.square(moved(before, step) - last).sum())))


def place(frame: np.ndarray) -> int:
    """The brightest of the places that a digit may stand at, by number."""
    _, h, w = frame.shape
    return int(frame.reshape(h // DIGIT, DIGIT, w // DIGIT, DIGIT).sum(axis=(1, 3)).argmax())


class FrameError(Metric):
    name = "frame_error"
    figures = (
        Figure(
            "frame_error", "Next frame's error", "MSE a pixel", "lower",
            meaning="mean squared error of the predicted frame",
        ),
        Figure("frame_error_repeated", "Error of the last frame again", "MSE a pixel", meaning="with no model"),
        Figure(
            "frame_error_moved", "Error of the last frame moved on", "MSE a pixel",
            meaning="by the step of the two frames given: true unless the digit bounces",
        ),
        Figure("frame_error_empty", "… of an empty frame", "MSE a pixel", meaning="with no model"),
        Figure(
            "frame_placed", "Next frame's digit in its place", "", "higher", "percent",
            meaning="the brightest of nine places is the true frame's: 1 in 9 by chance",
        ),
        Figure("frame_placed_moved", "… of the last frame moved on", form="percent", meaning="with no model"),
    )  # fmt: skip
    applies_to = AppliesTo(given=("frame", "frame"), want="frame")

    def compute(self, evaluation):
        given = [[item.data for item in items] for items in evaluation.prompts]
        truth, made = list(evaluation.truth), list(evaluation.made)
        on = [moved_on(before, last) for before, last in given]
        return {
            "frame_error": error(made, truth),
            "frame_error_repeated": error([last for _, last in given], truth),
            "frame_error_moved": error(on, truth),
            "frame_error_empty": error([0 * frame for frame in truth], truth),
            "frame_placed": placed(made, truth),
            "frame_placed_moved": placed(on, truth),
        }


def error(made: list[np.ndarray], truth: list[np.ndarray]) -> float:
    return float(np.square(np.stack(made) - np.stack(truth)).mean())


def placed(made: list[np.ndarray], truth: list[np.ndarray]) -> float:
    return float(np.mean([place(one) == place(other) for one, other in zip(made, truth, strict=True)]))
