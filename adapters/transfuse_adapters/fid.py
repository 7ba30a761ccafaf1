"""FID by torchmetrics: the Fréchet distance of made to real pictures in the features of a given Inception.

Weights are a file that the user names; nothing is downloaded. It holds the Inception of 2015, either as
TorchScript, which brings its layers along, or as a state dict, whose layers torch-fidelity has. Pickles are read as
tensors alone. Pictures become 8-bit RGB, as a PNG of them would be, and the network resizes them.

Heusel et al. 2017 (arXiv 1706.08500). Needs `pip install 'transfuse[metrics]'`, for a state dict
`'transfuse[fidelity]'` too; imported on use.
"""

import warnings
import zipfile
from collections.abc import Iterable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transfuse.plugin import AppliesTo, Evaluation, Figure, Metric, Settings, TransfuseError

from transfuse_adapters.references import imported, one_line, picture_batches, sha256_of, versions


class FidSettings(Settings):
    """The Inception that judges, and what pictures are compared with."""

    weights: str = Field(min_length=1)
    """Its file: inception-2015-12-05.pt (TorchScript), or pt_inception-2015-12-05-6726825d.pth (a state dict)."""
    against: Literal["heldout", "train"] = "heldout"
    """The real pictures: what the prompts' own documents have, or all training documents."""
    batch: int = Field(32, ge=1, le=4096)
    """Pictures that go through the network together."""
    device: str = Field("cpu", min_length=1)
    """Where the network runs: cpu, cuda, cuda:1."""


class Fid(Metric):
    """Of whatever is given, how far the pictures made are from real ones as a set."""

    name = "fid"
    applies_to = AppliesTo(want_data="array", axes=3, want_file=".png")
    figures = (
        Figure(
            "fid", "FID", "", "lower", "number",
            "Fréchet distance of the images made to real ones in the features of the Inception that the registry "
            "names; it grows as images get fewer, so that only values of as many images can be compared",
            "FID (lower is better)",
        ),
        Figure("fid_images", "Images made for FID", "", "", "count", "how many images FID was computed from"),
    )  # fmt: skip

    def __init__(self, settings: FidSettings) -> None:
        self.settings = settings

    def facts(self) -> dict[str, Any]:
        weights = Path(self.settings.weights)
        return {"weights_sha256": sha256_of(weights), "versions": versions("torchmetrics", "torch-fidelity")}

    def compute(self, evaluation: Evaluation) -> dict[str, float]:
        real: Iterable[np.ndarray] = evaluation.truth
        if self.settings.against == "train":
            real = (raw for _, raw in evaluation.examples("train"))
        self._distance.reset()
        with torch.inference_mode():
            images, made = self._feed(real, real=True), self._feed(evaluation.made, real=False)
            if min(images, made) < 2:
                raise TransfuseError(
                    f"FID is of at least two images made and two real ones, not {made} and {images}"
                )
            return {"fid": float(self._distance.compute()), "fid_images": made}

    def _feed(self, raws: Iterable[np.ndarray], real: bool) -> int:
        count = 0
        for pictures in picture_batches(raws, self.settings.batch):
            self._distance.update(pictures.to(self.settings.device), real=real)
            count += len(pictures)
        return count

    @cached_property
    def _distance(self) -> Any:
        fid, weights = (
            imported("torchmetrics.image.fid", "metric 'fid'", "metrics"),
            Path(self.settings.weights),
        )
        if not weights.is_file():
            raise TransfuseError(f"weights {weights} are no file: name one that holds the Inception of 2015")
        if _is_script(weights):
            distance = fid.FrechetInceptionDistance(feature=_Script(weights, self.settings.device))
        else:
            state = _state(weights)
            imported("torch_fidelity.feature_extractor_inceptionv3", "metric 'fid'", "fidelity")
            try:
                with torch.random.fork_rng(devices=[]):  # layers are drawn before they are filled
                    # Without antialias pictures are resized as when FID was defined.
                    distance = fid.FrechetInceptionDistance(
                        feature_extractor_weights_path=state, antialias=False
                    )
            except RuntimeError as fault:
                raise TransfuseError(
                    f"weights {weights} do not fill the Inception of 2015: {one_line(fault)}"
                ) from None
        return distance.to(self.settings.device)


def _is_script(weights: Path) -> bool:
    """Whether a file is a TorchScript archive: code beside tensors."""
    if not zipfile.is_zipfile(weights):
        return False
    with zipfile.ZipFile(weights) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Script(nn.Module):
    """A TorchScript network that takes uint8 ``[n, 3, h, w]`` and, so asked, returns features ``[n, features]``."""

    def __init__(self, weights: Path, device: str) -> None:
        super().__init__()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript
                self.network = torch.jit.load(weights, map_location=device).eval()
            features = self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))
            self.num_features = int(features.shape[1])
        except Exception as fault:  # TorchScript raises what it likes
            raise TransfuseError(
                f"weights {weights}: this TorchScript gives no features of pictures: {one_line(fault)}"
            ) from None

    def forward(self, pictures: Tensor) -> Tensor:
        return self.network(pictures, return_features=True)


def _state(weights: Path) -> BytesIO:
    """A state dict's tensors, and nothing that a pickle could run, as the file that torch-fidelity unpickles."""
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as fault:  # zip, pickle and torch raise what they like over other files
        raise TransfuseError(
            f"weights {weights} are no state dict that torch reads: {one_line(fault)}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise TransfuseError(
            f"weights {weights} are no state dict: it holds {type(state).__name__}, not tensors by name"
        )
    clean = BytesIO()
    torch.save(dict(state), clean)
    clean.seek(0)
    return clean
