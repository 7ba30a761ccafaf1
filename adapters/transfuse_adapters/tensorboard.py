"""A run's measurements and samples as TensorBoard shows them: ``transfuse train --track tensorboard``."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfuse.plugin import Drawn, Measured, Tracker

from transfuse_adapters.references import imported


class TensorBoard(Tracker):
    """Units stand behind names, as TensorBoard has no place for them."""

    def __init__(self, folder: Path) -> None:
        made = imported("torch.utils.tensorboard", "tracker 'tensorboard'", "trackers").SummaryWriter
        self.writer: Any = made(str(folder))

    def describe(self, recipe: Mapping[str, Any]) -> None:
        self.writer.add_text("recipe", f"```\n{json.dumps(recipe, indent=1)}\n```")

    def log(self, step: int, measured: Mapping[str, Measured]) -> None:
        for name, one in measured.items():
            tag = name if one.unit == "1" else f"{name} ({one.unit})"
            self.writer.add_scalar(tag, one.value, step)

    def show(self, step: int, samples: Sequence[Drawn]) -> None:
        for i, sample in enumerate(samples):
            texts = [part for part in (*sample.given, sample.made) if isinstance(part, str)]
            if isinstance(sample.made, bytes):
                self.writer.add_image(f"{sample.task}/{i}", _pixels(sample.made), step, dataformats="HWC")
            self.writer.add_text(f"{sample.task}/{i} text", " → ".join(map(_plain, texts)), step)

    def close(self) -> None:
        self.writer.close()


def _pixels(png: bytes) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _plain(text: str) -> str:
    """As text and no markup: TensorBoard renders Markdown."""
    return "`" + text.replace("`", "'") + "`"
