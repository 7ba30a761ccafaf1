"""How far a predicted frame is from the true one, beside what needs no model: the last frame, and it moved on."""

import numpy as np
from transfuse.plugin import AppliesTo, Figure, Metric

STEPS = [(0, 0), (8, 0), (-8, 0), (0, 8), (0, -8)]  # pixels that a digit moves


def moved(frame: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    return np.roll(frame, step, axis=(1, 2))


def moved_on(before: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The last frame, moved once more by the step that leads best from the one before to it."""
    return moved(last, min(STEPS, key=lambda step: float(np.square(moved(before, step) - last).sum())))


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
    )  # fmt: skip
    applies_to = AppliesTo(given=("frame", "frame"), want="frame")

    def compute(self, evaluation):
        given = [[item.data for item in items] for items in evaluation.prompts]
        guesses = {
            "frame_error": evaluation.made,
            "frame_error_repeated": [last for _, last in given],
            "frame_error_moved": [moved_on(before, last) for before, last in given],
        }
        truth = np.stack(list(evaluation.truth))
        return {name: float(np.square(np.stack(list(made)) - truth).mean()) for name, made in guesses.items()}
