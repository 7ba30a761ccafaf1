"""``transfuse sample``: any role of a trained run, given any others; what it is asked for, and how that is read."""

from contextlib import nullcontext
from pathlib import Path

from transfuse.checkpoints import RunFolder
from transfuse.documents import Document
from transfuse.errors import TransfuseError, did_you_mean
from transfuse.generation import GenerationConfig, generate_chunks
from transfuse.modalities import seam
from transfuse.model.model import Model
from transfuse.registry import Registry

from transfuse_lab.commands.arguments import TOKENS, SampleArguments
from transfuse_lab.commands.document_files import DocumentFiles
from transfuse_lab.commands.repeats import Repeats
from transfuse_lab.commands.sample_output import check_place, output
from transfuse_lab.device import open_device
from transfuse_lab.memory import keep_freed_memory
from transfuse_lab.progress import bar, complain
from transfuse_lab.runs.sampled import sampled_otherwise

MANY = 100  # samples from which on it is shown how many are drawn


def sample_command(arguments: SampleArguments) -> None:
    """``n`` samples for each prompt, or of what was given; a role is asked for, or what the model writes is taken."""
    check_place(arguments.out)
    device = open_device(arguments.device)
    keep_freed_memory()
    folder = RunFolder(arguments.run)
    plugins = Registry.open().plugins
    recipe = sampled_otherwise(folder.recipe(plugins), arguments.overrides, plugins)
    _, model = folder.load(plugins, recipe)
    model.to(device)
    droppable = {model.layout.marker_modality, *folder.description.get("droppable", ())} - {None}
    files = DocumentFiles(model.modalities, droppable)
    prompts, given = _prompts(arguments, files, model.layout.marker_modality)
    want, label = _wanted(arguments, model, given)
    tokens = {}
    if want is None or not model.modalities[want].labels():
        tokens["tokens"] = arguments.tokens or TOKENS
    elif arguments.tokens is not None:
        raise TransfuseError(f"--tokens is not used for {want}, which is no text: leave it out")
    out = output(arguments.out, want, files, arguments.prompts, arguments.n)
    config = GenerationConfig(want=want, label=label, seed=arguments.seed, dtype=arguments.dtype, **tokens)
    repeats = Repeats(arguments.n)
    asked = [prompt for prompt in prompts for _ in range(arguments.n)]
    with bar("sample") if len(asked) >= MANY else nullcontext() as progress:
        for number, made in enumerate(generate_chunks(model, asked, config)):
            given_items = len(asked[number].items)
            out.take(number, made, given_items)
            repeats.take(number, made.items[given_items:])
            if progress is not None:
                progress.update((number + 1) / len(asked), f"{number + 1:,} of {len(asked):,}")
    out.finish()
    for line in repeats.lines(recipe):
        complain(f"note: {line}")


def _prompts(
    arguments: SampleArguments, files: DocumentFiles, marker_modality: str | None
) -> tuple[list[Document], set[str]]:
    """What is to be continued, one document a prompt; and the roles that were given."""
    if arguments.prompts:
        if marker_modality is None:
            if any(arguments.prompts):
                raise TransfuseError(
                    f"--prompt: no role of this model ({', '.join(files.modalities)}) predicts what comes next, as "
                    f"one that takes prompts does: leave it out, or say --given ROLE=VALUE"
                )
            return [Document((), source="--prompt") for _ in arguments.prompts], set()
        items = [(files.item(marker_modality, text),) if text else () for text in arguments.prompts]
        return [Document(one, source="--prompt") for one in items], {marker_modality}
    if arguments.document is not None:
        return [files.read(arguments.document)], set()
    pairs, source = arguments.given, "--given"
    if arguments.image is not None:
        pairs, source = ((_picture_role(files), f"@{arguments.image}"),), str(arguments.image)
    items = [files.item(role, _raw(files, role, value)) for role, value in pairs]
    return [Document(tuple(items), source=source)], {role for role, _ in pairs}


def _picture_role(files: DocumentFiles) -> str:
    roles = [role for role, modality in files.modalities.items() if ".png" in seam.call(modality, "suffixes")]
    if len(roles) != 1:
        which = (
            f"{' and '.join(roles)} do: say --given {roles[0]}=@FILE" if roles else "none does: leave it out"
        )
        raise TransfuseError(
            f"--image: of this model's roles ({', '.join(files.modalities)}) one should load pictures, and {which}"
        )
    return roles[0]


def _raw(files: DocumentFiles, role: str, value: str) -> object:
    """Raw data that ``--given ROLE=VALUE`` means: a text as it is, ``@FILE``, or ``@@…`` for a text with an @."""
    if role not in files.modalities:
        raise TransfuseError(
            f"--given {role}: this model has no such role, {did_you_mean(role, files.modalities)}"
        )
    modality = files.modalities[role]
    if value.startswith("@") and not value.startswith("@@"):
        return seam.call(modality, "load", Path(value[1:]))
    if files.is_path(role, value):
        raise TransfuseError(f"--given {role}={value:.80}: {role} is no text: give a file, {role}=@FILE")
    return value[value.startswith("@@") :]


def _wanted(arguments: SampleArguments, model: Model, given: set[str]) -> tuple[str | None, str | None]:
    """The role that is asked for, and of which shape; None where that is the model's to say."""
    roles = list(model.modalities)
    if arguments.want is not None:
        role, _, label = arguments.want.partition(":")
        if role not in roles:
            raise TransfuseError(f"--want {role}: this model has no such role, {did_you_mean(role, roles)}")
        return role, label or None
    left = [role for role in roles if role not in given] if given else roles
    if len(roles) == 1 or (given and len(left) == 1):
        return (left or roles)[0], None
    if given or model.layout.marker_modality is None:
        raise TransfuseError(
            f"--want is missing: which of {' and '.join(left or roles)} to make, such as --want {(left or roles)[0]}"
        )
    return None, None
