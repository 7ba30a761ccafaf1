"""What each metric is called, which way is better, and how its values are shown."""

from dataclasses import dataclass
from math import floor, log10
from typing import Literal

SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True)
class Figure:
    """A metric as a reader meets it.

    better: ``higher``, ``lower``, or empty where neither is.
    form: percent (of a share from 0 to 1), number (three significant digits), count (whole).
    """

    name: str
    title: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    form: Literal["percent", "number", "count"] = "number"
    meaning: str = ""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]

    def show(self, value: float | None, signed: bool = False) -> str:
        """The value as text without its unit, but with % for shares; a dash for None."""
        if value is None:
            return "–"
        text = f"{100 * value:.1f}\u00a0%" if self.form == "percent" else number(value, self.form == "count")
        return f"+{text}" if signed and value > 0 else text.replace("-", "−")

    def show_difference(self, value: float) -> str:
        """A difference, signed; of shares, in percentage points."""
        if self.form == "percent":
            points = f"{100 * value:+.1f}"
            return ("0.0" if points in ("+0.0", "-0.0") else points.replace("-", "−")) + "\u00a0points"
        return self.show(value, signed=True)


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "generation_accuracy", "Generation accuracy", "", "higher", "percent",
            "the share of prompted images in which a classifier, trained on the real training images, "
            "reads the caption they were asked to show",
        ),
        Figure(
            "own_image_rank_seen", "Own image's rank, trained on", "images nearer", "lower", "number",
            "how many real images, of either split, are nearer by pixel distance to the image drawn for a caption than "
            "the caption's own image: the median over captions spread evenly over the training split",
        ),
        Figure(
            "own_image_rank_heldout", "Own image's rank, held out", "images nearer", "lower", "number",
            "the same for captions that were never trained on",
        ),
        Figure(
            "caption_accuracy", "Caption accuracy", "", "higher", "percent",
            "the share of held-out images whose greedy caption equals the true one exactly",
        ),
        Figure(
            "caption_nll_token", "Caption NLL per token", "nats", "lower", "number",
            "negative log-likelihood of the true held-out captions given their images, a token of the model",
        ),
        Figure(
            "caption_nll_byte", "Caption NLL per byte", "nats", "lower", "number",
            "the same, a UTF-8 byte, which can be compared between tokenizers",
        ),
        Figure(
            "frechet_distance", "Fréchet distance", "", "lower", "number",
            "between generated and held-out images in the features of that classifier; this is not FID, "
            "whose features are Inception's, and is comparable within this page only",
        ),
        Figure(
            "frechet_floor", "… of real training images", "", "", "number",
            "the Fréchet distance of as many real training images, which the classifier has seen, to the held-out ones",
        ),
        Figure(
            "reconstruction_error", "Reconstruction error", "MSE a pixel", "lower", "number",
            "mean squared error of held-out images through the image codec and back, pixels in [0, 1]",
        ),
        Figure(
            "classifier_accuracy", "Classifier's own accuracy", "", "", "percent",
            "the same classifier on real held-out images: beyond it, generation accuracy says nothing",
        ),
        Figure(
            "positions_per_second", "Speed", "positions/s", "higher", "count",
            "training positions a second of process CPU time (all threads; a comparison runs one), where this ran",
        ),
        Figure("train_flops", "Training FLOPs", "", "", "number", "what the run spent, by the formula above"),
    )
}  # fmt: skip


def figure(name: str) -> Figure:
    """The figure of a metric; one that a plugin brings goes by its own name."""
    return FIGURES.get(name) or Figure(name, name.replace("_", " "))


def ordered(names: list[str]) -> list[str]:
    """Known metrics in the order of `FIGURES`, then the others by name."""
    return [name for name in FIGURES if name in names] + sorted(set(names) - FIGURES.keys())


def number(value: float, whole: bool = False) -> str:
    """Three significant digits, or a whole number; powers of ten for what is huge or tiny.

    >>> number(0.012345), number(2.5e12), number(1234.5, whole=True)
    ('0.0123', '2.5 × 10¹²', '1,234')
    """
    if value == 0:
        return "0"
    power = floor(log10(abs(value)))
    if whole and power < 9:
        return f"{value:,.0f}"
    if power >= 6 or power < -4:
        return f"{value / 10**power:.3g} × 10{str(power).translate(SUPERSCRIPT)}"
    return f"{value:,.{max(0, 2 - power)}f}"
