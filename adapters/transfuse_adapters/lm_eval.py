"""A run as a language model of lm-eval, EleutherAI's harness, which puts its tasks to the run's text.

    python -m transfuse_adapters.lm_eval run --model transfuse --model_args run=runs/captions --tasks TASK

The harness asks three things: the likelihood of a continuation, that of a whole text, and what a text goes on with.
A text is laid out as a document of one item, as in training; its end is not scored. The model's other modalities
take no part. Texts longer than the rows of training lose their beginning, or are scored in windows as the harness
defines them.

Needs `pip install 'transfuse[harness]'`; imported on use.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transfuse import Document, Item, TransfuseError, collate, generate
from transfuse.checkpoints import RunFolder
from transfuse.checkpoints.checkpoint import EMA_FILE, MODEL
from transfuse.plugin import Key
from transfuse.registry import Registry
from transfuse.sequences.rows import join
from transfuse.sequences.vocabulary import BEGIN, END

from transfuse_adapters.references import imported, sha256_of

USER, EXTRA = "model 'transfuse' of lm-eval", "harness"

Pair = tuple[Sequence[int], Sequence[int]]
"""Ids of a context and of its continuation, both of the model's whole vocabulary."""


class RunLM:
    """What the harness asks of a causal model with a tokenizer; `registered` makes it a class of the harness.

    run: the run's folder. batch_size: texts in a row together. max_length: ids of a text that are read at once, by
    default as many as a row of training holds. device: where the model runs; the CPU where there is no GPU.
    """

    backend = "causal"

    def __init__(
        self,
        run: str,
        batch_size: int | str = 1,
        max_length: int | None = None,
        device: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise TransfuseError(f"{USER}: batch_size is a number of texts, not {batch_size!r:.40}")
        self.folder, self.at_once = RunFolder(Path(run)), int(batch_size)
        recipe, model = self.folder.load(Registry.open().plugins)
        self.averaged = bool(recipe.train.ema)
        # The harness asks for a GPU unless it is told otherwise.
        there = device is not None and (torch.cuda.is_available() or not device.startswith("cuda"))
        self.model = model.to(device if there else "cpu")
        role = model.layout.marker_modality
        if role is None:
            raise TransfuseError(f"{run}: its model has no text that predicts what comes next")
        self.role, self.modality, self.ids = role, model.token_modalities[role], model.vocabulary.range(role)
        self.max_length = max_length or recipe.train.budget - 2  # between the marks of begin and end
        if self.max_length < 2:
            raise TransfuseError(f"{USER}: max_length is at least 2 ids, not {self.max_length}")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness keeps of the model in its results."""
        checkpoint = self.folder.checkpoint
        return {
            "model_num_parameters": sum(weight.numel() for weight in self.model.parameters()),
            "model_step": checkpoint.state["step"],
            "model_sha256": sha256_of(checkpoint.folder / (EMA_FILE if self.averaged else MODEL)),
            "max_length": self.max_length,
        }

    # -- texts as ids

    @property
    def eot_token_id(self) -> int:
        return self.model.vocabulary.marker(END)

    @property
    def prefix_token_id(self) -> int:
        return self.model.vocabulary.marker(BEGIN)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
        """Ids of the vocabulary. The document's marks, which stand around every text, are not among them."""
        return (self.modality.encode(string) + self.ids.start).tolist() if string else []

    # -- likelihood

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, Sequence[int], Sequence[int]]], **more: Any
    ) -> list[tuple[float, bool]]:
        """Of each continuation given its context: log-likelihood in nats, and whether it is greedy."""
        return list(self._scored([(context, continuation) for _, context, continuation in requests]))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Of each whole text, in windows where it is long; each window but the first has some context."""
        windows = imported("lm_eval.utils", USER, EXTRA)
        found = []
        for (text,) in (request.args for request in requests):
            parts = windows.get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, self.max_length - 1, context_len=1
            )
            scores = self._scored([*map(windows.make_disjoint_window, parts)])
            found.append(float(sum(score for score, _ in scores)))
        return found

    def _scored(self, pairs: Sequence[Pair]) -> Iterator[tuple[float, bool]]:
        for start in range(0, len(pairs), self.at_once):
            yield from self._row(pairs[start : start + self.at_once])

    @torch.inference_mode()
    def _row(self, pairs: Sequence[Pair]) -> Iterator[tuple[float, bool]]:
        layout, settings = self.model.layout, self.model.settings
        sequences = []
        for number, (context, continuation) in enumerate(pairs):
            if len(continuation) > self.max_length:
                raise TransfuseError(
                    f"{USER}: a continuation has {len(continuation)} ids, and at most {self.max_length} are read at "
                    f"once: raise max_length"
                )
            whole = [id for id in (*context, *continuation) if id != self.prefix_token_id]
            payload = np.array(whole[-self.max_length :], np.int64) - self.ids.start
            document = Document((Item(self.role, None),), id=number, source=f"text {number}")
            sequences.append(layout.sequence(document, [payload]))
        row = join(sequences)
        batch = collate(row, self.model.modalities, Key(0), settings.rope, clean=True)
        hidden, _ = self.model(batch.to(self.model.tokens.weight.device))
        own = (row.targets >= self.ids.start) & (row.targets < self.ids.stop)
        for (_, continuation), (start, stop) in zip(pairs, pairwise(row.bounds), strict=True):
            ids = np.flatnonzero(own[start:stop])
            places = start + ids[len(ids) - len(continuation) :]
            logits = self.model.logits(hidden[places]).double().cpu()
            targets = torch.from_numpy(row.targets[places])
            each = torch.log_softmax(logits, dim=-1).gather(1, targets[:, None])
            yield float(each.sum()), bool((logits.argmax(dim=-1) == targets).all())

    # -- writing

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model goes on with, greedily, up to the first of the request's stops, its end, or its length."""
        normalized = imported("lm_eval.models.utils", USER, EXTRA).normalize_gen_kwargs
        asked = [(context, normalized(more)) for context, more in (request.args for request in requests)]
        written: list[str] = []
        for tokens, same in groupby(asked, key=lambda one: one[1]["max_gen_toks"]):
            group = list(same)
            for start in range(0, len(group), self.at_once):
                written += self._written(group[start : start + self.at_once], tokens)
        return written

    def _written(self, asked: Sequence[tuple[str, Mapping[str, Any]]], tokens: int) -> Iterator[str]:
        if any(more["do_sample"] for _, more in asked):
            raise TransfuseError(f"{USER} writes greedily: give --gen_kwargs do_sample=False,temperature=0")
        prompts = [self._prompt(context, self.max_length - tokens) for context, _ in asked]
        documents = generate(self.model, prompts, want=self.role, tokens=tokens, greedy=True)
        for prompt, document, (_, more) in zip(prompts, documents, asked, strict=True):
            new = document.items[len(prompt.items) :]
            yield _until(new[-1].data if new else "", more["until"])

    def _prompt(self, context: str, most: int) -> Document:
        """A document of the context's last ``most`` ids."""
        ids = self.tok_encode(context)
        if most < 1:
            raise TransfuseError(
                f"{USER}: the task asks for as many ids as are read at once, {self.max_length}: raise max_length, or "
                f"give --gen_kwargs max_gen_toks=N"
            )
        if len(ids) > most:
            context = self.modality.decode(np.array(ids[-most:]) - self.ids.start)
        return Document((Item(self.role, context),) if context else ())


def _until(text: str, stops: Iterable[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0] if stop else text
    return text


def registered() -> Any:
    """`RunLM` as a class of the harness, which knows it by the name ``transfuse``.

    Raises TransfuseError with the cure where lm-eval does not import.
    """
    model, registry = (imported(f"lm_eval.api.{name}", USER, EXTRA) for name in ("model", "registry"))
    if "transfuse" not in registry.model_registry:
        registry.register_model("transfuse")(type("TransfuseLM", (RunLM, model.TemplateLM), {}))
    return registry.get_model("transfuse")


def main() -> None:
    """lm-eval's own command, which knows the model ``transfuse``."""
    try:
        registered()
        imported("lm_eval.__main__", USER, EXTRA).cli_evaluate()
    except TransfuseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
