"""transfusion-pytorch as a runner: its package as it is released, called as its README says. None of its code is here.

pip install -e ".[peer]"
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import import_module, util
from typing import Any

import torch
from transfuse import Document

from runners.in_batches import InBatches
from runners.ours import CORE, GUIDANCE, Ours
from runners.workloads import WIDTH

MISSING = (
    "transfusion-pytorch is not installed: pip install 'transfusion-pytorch==0.20.*', or say --without peer"
)

TRIED: dict[str, dict[str, Any]] = {
    "as released": {},
    "modality_processing='grouped'": {"modality_processing": "grouped"},
    "modality_processing='flat'": {"modality_processing": "flat"},
    "modality_processing='hybrid'": {"modality_processing": "hybrid"},
    "flat, two passes by length": {"modality_processing": "flat", "passes": 2},
    "flat, four passes by length": {"modality_processing": "flat", "passes": 4},
    "flat, without U-Net skips": {"modality_processing": "flat", "unet_skips": False},
    "flat, without norms of queries and keys": {"modality_processing": "flat", "qk_rmsnorm": False},
    "flat, transformer compiled": {"modality_processing": "flat", "compiled": True},
}
"""Settings that --settings measures, by how the page calls them."""


def installed() -> bool:
    return util.find_spec("transfusion_pytorch") is not None


class Peer(InBatches):
    """Its model of our core on the groups of documents that are our rows.

    passes: into how many batches a group goes, the documents sorted by length. The rest are its own settings.
    """

    name = "peer"

    def __init__(
        self,
        ours: Ours,
        dtype: str = "fp32",
        core: dict[str, int] = CORE,
        passes: int = 1,
        compiled: bool = False,
        modality_processing: str = "auto",
        **layers: Any,
    ) -> None:
        if not installed():
            raise SystemExit(MISSING)
        with _silently():
            Transfusion = import_module("transfusion_pytorch").Transfusion
        self.has_text, self.evaluations, self.tokens = ours.workload.has_text, ours.evaluations, ours.tokens
        torch.manual_seed(0)
        model = Transfusion(
            num_text_tokens=256,
            dim_latent=WIDTH,
            modality_default_shape=(16,),
            modality_processing=modality_processing,
            odeint_kwargs={"method": "euler"},
            transformer={
                "dim": core["dim"],
                "depth": core["layers"],
                "heads": core["heads"],
                "dim_head": core["dim"] // core["heads"],
                **layers,
            },
        )
        if compiled:
            model.transformer = torch.compile(model.transformer, dynamic=True)
        super().__init__(ours, model, dtype, passes)

    @property
    def path(self) -> str:
        where = "scores written out under a boolean mask: its FlexAttention is for CUDA"
        kind = (
            f"modality_processing={self.model.modality_processing!r}" if self.has_text else "pictures alone"
        )
        return f"{kind}, {self.passes} pass(es) a step, {where}"

    def batch_loss(self, documents: list[Document]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bf16"):
            if not self.has_text:
                return self.model(torch.stack([latents(d.items[0].data) for d in documents]))
            return self.model([[tensor(item) for item in document.items] for document in documents])

    # -- generation

    def pictures(self, prompts: list[str]) -> int:
        """Draws a picture of 16 positions behind each caption; how many."""
        given = [text_tensor(prompt) for prompt in prompts]
        asked = {
            "max_length": 15,  # it ends behind its first picture
            "force_modality_at_start": (0, (16,)),
            "modality_steps": self.evaluations + 1,
            "cfg_scale": GUIDANCE,
        }
        with self._sampling():
            if len(given) == 1:
                return int(bool(self.model.sample_one(given[0], cache_kv=True, **asked)))
            return len(self.model.sample_many(given, **asked))

    def text(self, prompts: list[str]) -> int:
        """Writes `tokens` bytes after each prompt, greedily, by its way for text alone; how many in all."""
        given = torch.stack([text_tensor(prompt) for prompt in prompts])
        with self._sampling():
            made = self.model.generate_text_only(given, given.shape[1] + self.tokens, temperature=0.0)
        return made.numel()

    def documents(self, prompts: list[str]) -> int:
        """The same by its way for documents, in which a picture might follow."""
        given = [text_tensor(prompt) for prompt in prompts]
        with torch.no_grad():  # no document ends early, nor begins a picture
            self.model.to_text_logits.weight[256:] = 0
        with self._sampling():
            made = self.model.sample_many(given, max_length=self.tokens - 1, text_temperature=0.0)
        return sum(part.numel() for sample in made for part in sample) - sum(map(len, prompts)) - len(prompts)

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        with _silently(), torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bf16"):
            yield


@contextmanager
def _silently() -> Iterator[None]:
    """Without its bars and notices, whose cost would be counted."""
    import loguru

    loguru.logger.disable("transfusion_pytorch")
    with redirect_stderr(io.StringIO()):
        yield


def tensor(item: Any) -> torch.Tensor:
    return text_tensor(item.data) if item.modality == "text" else latents(item.data)


def text_tensor(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()))


def latents(picture: Any) -> torch.Tensor:
    """``[4, 1, n]`` in [0, 1] to ``[n, 4]`` in [-1, 1]."""
    return torch.from_numpy(picture).flatten(1).T * 2 - 1
