"""CLIP score by torchmetrics: how well pictures fit the texts they were asked for, as a given CLIP sees it.

Weights are a folder that transformers saved, with its tokenizer and preprocessor; nothing is downloaded. The score
is 100 times the mean cosine of the two embeddings, not below 0. Texts longer than CLIP takes are cut, their end
token kept.

Hessel et al. 2021 (arXiv 2104.08718; they multiply by 2.5 instead of 100). Needs
`pip install 'transfuse[metrics]'`; imported on use.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import AppliesTo, Evaluation, Figure, Metric, Settings, TransfuseError

from transfuse_adapters.references import imported, one_line, picture_batches, sha256_of, versions

TOKENIZERS = ("tokenizer.json", "vocab.json")


class ClipScoreSettings(Settings):
    """The CLIP that judges."""

    weights: str = Field(min_length=1)
    """Its folder: config.json, model.safetensors, and the files of its tokenizer and preprocessor."""
    batch: int = Field(32, ge=1, le=4096)
    """Pictures that go through the network together."""
    device: str = Field("cpu", min_length=1)
    """Where the network runs: cpu, cuda, cuda:1."""


class ClipScore(Metric):
    """Of pictures asked for by texts alone; several texts are read as one, a line each."""

    name = "clip_score"
    applies_to = AppliesTo(given_data="text", want_data="array", axes=3, want_file=".png")
    figures = (
        Figure(
            "clip_score", "CLIP score", "", "higher", "number",
            "100 times the mean cosine between the embeddings of each image made and of the text it was asked for, by "
            "the CLIP that the registry names; values of other CLIPs cannot be compared",
            "CLIP score (higher is better)",
        ),
        Figure("clip_score_real", "CLIP score of real images", "", "", "number", "the same of real held-out images"),
    )  # fmt: skip

    def __init__(self, settings: ClipScoreSettings) -> None:
        self.settings = settings

    def facts(self) -> dict[str, Any]:
        weights = Path(self.settings.weights)
        return {"weights_sha256": sha256_of(weights), "versions": versions("torchmetrics", "transformers")}

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        texts = ["\n".join(item.data for item in prompt) for prompt in evaluation.prompts]
        return {
            "clip_score": self._score(evaluation.made, texts),
            "clip_score_real": self._score(evaluation.truth, texts),
        }

    def _score(self, raws: Iterable[np.ndarray], texts: Sequence[str]) -> float:
        library = imported("torchmetrics.multimodal.clip_score", "metric 'clip_score'", "metrics")
        with torch.inference_mode():
            score, at = library.CLIPScore(model_name_or_path=lambda: self._clip), 0
            score.to(self.settings.device)
            for pictures in picture_batches(raws, self.settings.batch):
                score.update(list(pictures.to(self.settings.device)), list(texts[at : at + len(pictures)]))
                at += len(pictures)
            return float(score.compute())

    @cached_property
    def _clip(self) -> tuple["_Model", "_Processor"]:
        transformers, folder = (
            imported("transformers", "metric 'clip_score'", "metrics"),
            Path(self.settings.weights),
        )
        if not (folder / "config.json").is_file():
            raise TransfuseError(
                f"weights {folder} hold no config.json: name the folder of a CLIP that transformers saved"
            )
        if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers would make an empty one
            raise TransfuseError(
                f"weights {folder} hold no {' or '.join(TOKENIZERS)}: save CLIP's processor there too"
            )
        try:
            with torch.random.fork_rng(devices=[]), _without_bars(transformers.utils.logging):
                model, loading = transformers.CLIPModel.from_pretrained(
                    folder, local_files_only=True, output_loading_info=True
                )
                processor = transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as fault:  # transformers and safetensors raise what they like over other files
            raise TransfuseError(f"weights {folder} are no CLIP that loads: {one_line(fault)}") from None
        if loading["missing_keys"]:
            raise TransfuseError(
                f"weights {folder} are no whole CLIP: {min(loading['missing_keys'])} is missing"
            )
        return _Model(model.eval()), _Processor(processor, model.config.text_config.max_position_embeddings)


@contextmanager
def _without_bars(logging: Any) -> Iterator[None]:
    """While the block runs, transformers draws no progress bar."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class _Model(nn.Module):
    """CLIP as torchmetrics calls it: embeddings are tensors, which since transformers 5 stand inside an output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return _embedding(self.model.get_image_features(pixels))

    def get_text_features(self, ids: Tensor, attended: Tensor) -> Tensor:
        return _embedding(self.model.get_text_features(ids, attended))


def _embedding(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


class _Processor:
    """CLIP's processor, which cuts texts before their end token; torchmetrics would cut that too."""

    def __init__(self, processor: Any, longest: int) -> None:
        self.processor, self.longest = processor, longest

    def __call__(self, text: list[str] | None = None, **more: Any) -> Any:
        if text is None:
            return self.processor(**more)
        return self.processor(text=text, truncation=True, max_length=self.longest, **more)
