"""What a model makes of a few held-out prompts while it is trained, for its trackers."""

from transfuse.datasets import DataSet
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.generation.decoding import generate
from transfuse.training import Trainer
from transfuse.training.tracker import Drawn

from transfuse_lab.raw_drawing import drawn

PROMPTS = 4
"""So many documents, and at most so many tokens of a text."""
TOKENS = 32


def sample(trainer: Trainer, data: DataSet) -> list[Drawn]:
    """The last item of the first held-out documents, asked for given those before it; with the averaged weights."""
    model, found = trainer.model, []
    split = trainer.recipe.eval.split
    documents = [data.document(split, i) for i in range(min(PROMPTS, data.size(split)))]
    by_role: dict[str, list[Document]] = {}
    for document in documents:
        if document.items:
            by_role.setdefault(document.items[-1].modality, []).append(document)
    with trainer.averaged_weights():
        for role, some in by_role.items():
            prompts = [Document(one.items[:-1], one.id, one.source) for one in some]
            try:
                made = generate(model, prompts, want=role, tokens=TOKENS, seed=0)
            except (
                TransfuseError
            ) as error:  # of a model that knows too little yet: a marker was never trained
                made = [Document((), one.id, str(error)) for one in some]
            for prompt, one in zip(prompts, made, strict=True):
                task = "+".join(item.modality for item in prompt.items) + f"->{role}"
                given = tuple(_drawn(trainer, item.modality, item.data) for item in prompt.items)
                new = one.items[len(prompt.items) :]
                found.append(Drawn(task, given, _drawn(trainer, role, new[0].data) if new else one.source))
    return found


def _drawn(trainer: Trainer, role: str, raw: object) -> str | bytes:
    if isinstance(raw, str):
        return raw
    try:
        return drawn(trainer.model.modalities[role], raw)
    except TransfuseError as error:
        return f"(not drawn: {error})"
