"""Texts whose cures are tried elsewhere in the suite, and texts that only look like cures."""

LIBRARY = "a call in Python, which no command makes"
AUTHOR = "what the author of a modality, part or plugin is told"
MODEL = "a pretrained model's folder"
WEIGHTS = "weights that are named in a registry"
NETWORK = "npm and the network"
CUDA = "needs CUDA"
RANKS = "several processes that train together"
PACKAGES = "packages that are not installed"
SHAPES = "needs FlexAttention's shapes"

ELSEWHERE: dict[str, tuple[str, str]] = {
    "recipe.py: is {values": (MODEL, "core/test_pretrained.py"),
    "kv_cache.py: cache: stream": (LIBRARY, "attention/test_cache.py"),
    "kernel.py: tiles": (LIBRARY, "attention/test_backends.py"),
    "flex.py: flex": (LIBRARY, "attention/test_flex.py"),
    "flex.py: {length}": (SHAPES, "attention/test_flex.py"),
    "select.py: unknown attention backend": (LIBRARY, "attention/test_backends.py"),
    "xformers.py": (CUDA, "attention/test_xformers.py"),
    "columns.py": (LIBRARY, "masks/test_columns.py"),
    "vocabulary.py: the vocabulary has no range": (LIBRARY, "core/test_sequence.py"),
    "vocabulary.py: the vocabulary has no marker": (LIBRARY, "core/test_sequence.py"),
    "config.py: label": (LIBRARY, "core/test_decoding.py"),
    "decoding.py: this model has no modality": (LIBRARY, "core/test_decoding.py"),
    "decoding.py: no modality of this model predicts what": (LIBRARY, "core/test_decoding.py"),
    "decoding.py: nothing to continue": (LIBRARY, "core/test_decoding.py"),
    "decoding.py: no modality of this model predicts which": (LIBRARY, "core/test_decoding.py"),
    "decoding.py: the model was never trained": (
        "a model whose marker no training document has",
        "core/test_decoding.py",
    ),
    "tasks.py: data set {data.name} holds no task": (LIBRARY, "lab/test_tasks.py"),
    "sheet.py: {option} {out}: not all": ("drawings of another's modality", "lab/test_sheet.py"),
    "sheet.py: {option} {out}: cannot": (LIBRARY, "lab/test_sheet.py"),
    "images.py: {self.folder / name}": (
        "a folder that changes while it is read",
        "data/test_images_by_index.py",
    ),
    "lock.py: --out {folder}": ("a folder that changes while it is looked at", "lab/test_training.py"),
    "lock.py: {what} cannot be written": ("a folder that changes while it is looked at", "lab/test_lock.py"),
    "records.py": ("what a comparison makes again by itself", "lab/test_records.py"),
    "files.py: {name} is a mask already": (LIBRARY, "registry/test_registry.py"),
    "parts.py: {noun(self.kind)} {self.name} builds": (AUTHOR, "registry/test_parts.py"),
    "config.py: {name} must be": (LIBRARY, "core/test_decoding.py"),
    "verdicts.py": (LIBRARY, "lab/test_verdicts.py"),
    "scaling.py": (LIBRARY, "lab/test_scaling.py"),
    "recompute.py": (AUTHOR, "core/test_precision.py"),
    "check_plugin.py: no recipe and data set": (AUTHOR, "registry/test_plugins_page.py"),
    "check_plugin.py: no data set here": (AUTHOR, "registry/test_plugins_page.py"),
    "packing.py": (LIBRARY, "core/test_packing.py"),
    "combiner.py": (LIBRARY, "core/test_losses.py"),
    "layout.py: {place}: this recipe has no modality": (LIBRARY, "core/test_sequence.py"),
    "layout.py: {document.source}: the document is empty": (LIBRARY, "core/test_bad_documents.py"),
    "layout.py: {place}: it is empty": (LIBRARY, "core/test_bad_documents.py"),
    "layout.py: {place}: it holds NaN": (LIBRARY, "core/test_bad_documents.py"),
    "raw_images.py: an image must be of floats": (LIBRARY, "plugins/test_codecs.py"),
    "raw_images.py: the image holds NaN": (LIBRARY, "core/test_bad_documents.py"),
    "raw_images.py: its shape is": (LIBRARY, "plugins/test_codecs.py"),
    "modality.py: modality {self.name} has no tokenizer": (LIBRARY, "plugins/test_text.py"),
    "parts.py: a {self.kind} is read": (LIBRARY, "registry/test_parts.py"),
    "stream.py: {self.data.name} train": ("a data set of one's own", "core/test_silence.py"),
    "parts.py: {what}: build must": (AUTHOR, "registry/test_parts.py"),
    "recipe.py: is taken": (AUTHOR, "registry/test_recipes.py"),
    "seam.py: : return float32": (AUTHOR, "core/test_seam.py"),
    "seam.py:  of an item that is not": (AUTHOR, "core/test_seam.py"),
    "seam.py:  with a loss for an item": (AUTHOR, "core/test_seam.py"),
    "seam.py: spans: add": (AUTHOR, "core/test_seam.py"),
    "seam.py: tokens: add": (AUTHOR, "core/test_seam.py"),
    "raw.py: {path}: raw data of type": (AUTHOR, "core/test_raw.py"),
    "layout.py:  as a label": (AUTHOR, "core/test_silence.py"),
    "layout.py: modality {name}: a span writes": (AUTHOR, "core/test_bad_documents.py"),
    "layout.py: modality {name}: column": (AUTHOR, "core/test_bad_documents.py"),
    "silence.py: the weights in": (AUTHOR, "core/test_silence.py"),
    "measure.py: {key}{place}": (AUTHOR, "lab/test_measure.py"),
    "plugin_contents.py: implements no such hook": (AUTHOR, "registry/test_plugins.py"),
    "plugin_contents.py: returned an unknown key": (AUTHOR, "registry/test_plugins.py"),
    "registry.py: brings": (AUTHOR, "registry/test_registry.py"),
    "config_json.py": (MODEL, "core/test_pretrained.py"),
    "pretrained.py": (MODEL, "core/test_pretrained.py"),
    "diffusers.py": (MODEL, "adapters/test_diffusers.py"),
    "cider.py": (WEIGHTS, "adapters/test_cider.py"),
    "clip_score.py": (WEIGHTS, "adapters/test_clip_score.py"),
    "guards.py: there was not enough memory": ("memory that runs out", "training/test_guards.py"),
    "ranks.py": (CUDA, "training/test_ranks.py"),
    "sharding.py": (RANKS, "training/test_ranks.py"),
    "saving.py: {fresh} cannot be written": (RANKS, "training/test_resume.py"),
    "saving.py: {out} holds something": (RANKS, "training/test_resume.py"),
    "tracking.py": (PACKAGES, "adapters/test_trackers.py"),
    "tensorboard.py": (PACKAGES, "adapters/test_trackers.py"),
    "wandb.py": (PACKAGES, "adapters/test_trackers.py"),
    "examination.py": ("what a doctor advises: a run that is trained anew", "lab/test_examination.py"),
    "fid.py": (WEIGHTS, "adapters/test_fid.py"),
    "references.py": (WEIGHTS, "adapters/test_references.py"),
    "lm_eval.py": ("lm-eval's command line, not ours", "adapters/test_lm_eval.py"),
    "npm.py": (NETWORK, "data/test_npm.py"),
    "emoji.py": (NETWORK, "data/test_emoji.py"),
    "device.py: torch {torch.__version__}": (CUDA, "devices/test_device_option.py"),
    "files.py: registry.yaml is missing": ("a broken installation", "registry/test_registry.py"),
    "zarr_store.py: stores need zarr": ("an installation without zarr", "data/test_zarr_store.py"),
}
"""Why a text's cure is not tried here, and the test of the suite that meets the text."""

NO_CURE: tuple[str, ...] = (
    "headline.py", "choices.py", "plugin.py: principal components", "data_set.py: made by this program", "edits.py",
    "html.py", "samples.py: {asked}", "compare.py: train and evaluate", "survey.py: look at",
    "survey.py: have their text cut", "training.py: train {recipe.name}",
)  # fmt: skip
"""What looks like one and is none."""
