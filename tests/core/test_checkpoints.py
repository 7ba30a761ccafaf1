"""Checkpoints come back bit for bit, in another process too; a damaged one is named, a crash leaves the old one."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transfuse import checkpoints, files
from transfuse.checkpoints import RunFolder
from transfuse.errors import TransfuseError
from transfuse.model.build import build_model
from transfuse.model.model import Model
from transfuse.registry.plugins import Plugins
from transfuse.training.optimizer import optimizer_tensors, restore_optimizer
from transfuse.training.saving import write_checkpoint

from tests.tiny.models import SECTIONS, Kit, picture, plugins
from tests.tiny.runs import NAMES, adam, back, recipe_of, rewritten, same, save, train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(kit: Kit) -> Model:
    """A model that begins markers and has moved from its first weights."""
    return build_model(recipe_of(), kit.modalities(*NAMES), plugins())


@pytest.fixture
def run(model: Model, tmp_path: Path) -> Path:
    """The folder of a run, saved after two steps."""
    optimizer = adam(model)
    train(model, optimizer, range(2))
    save(tmp_path / "run", model, optimizer, step=2)
    return tmp_path / "run"


def test_weights_buffers_and_state_come_back_bit_for_bit(run: Path, model: Model) -> None:
    other, _, saved = back(run)
    assert same(other.state_dict(), model.state_dict())
    assert bool(other.predictable[other.vocabulary.marker("<image 2x2>")])
    assert other.vocabulary == model.vocabulary
    assert list(other.modalities) == list(NAMES)
    assert {key: saved.state[key] for key in ("step", "progress")} == {"step": 2, "progress": {"step": 2}}
    _, loaded = checkpoints.load(run, plugins())
    assert not loaded.training
    assert same(loaded.state_dict(), model.state_dict())


def test_a_resumed_run_goes_on_exactly_as_one_that_never_stopped(model: Model, tmp_path: Path) -> None:
    optimizer = adam(model)
    train(model, optimizer, range(2))
    save(tmp_path, model, optimizer, step=2)
    resumed, its_optimizer, _ = back(tmp_path)
    assert train(resumed, its_optimizer, range(2, 5)) == train(model, optimizer, range(2, 5))
    assert same(resumed.state_dict(), model.state_dict())


def test_the_optimisers_state_comes_back_parameter_by_parameter(run: Path, model: Model) -> None:
    other, optimizer, saved = back(run)
    stored = load_file(saved.folder / "optimizer.safetensors")
    names = {p: n for n, p in other.named_parameters()}
    found = {names[p]: state for p, state in optimizer.state.items()}
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, state in found.items():
        assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for key, value in state.items():
            assert torch.equal(value, stored[f"{name}/{key}"])
        assert state["exp_avg"].shape == other.get_parameter(name).shape
    assert same(optimizer_tensors(other, optimizer), stored)


NEW_PROCESS = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tests.tiny.runs import back, train
torch.set_num_threads(1)
model, optimizer, saved = back(Path(sys.argv[1]))
print(train(model, optimizer, range(2, 4)))
save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, sys.argv[2])
"""


def test_a_new_process_goes_on_with_the_same_losses_and_weights(run: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", NEW_PROCESS, str(run), str(tmp_path / "after.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    model, optimizer, _ = back(run)
    assert json.loads(done.stdout) == train(model, optimizer, range(2, 4))
    assert same(load_file(tmp_path / "after.safetensors"), model.state_dict())


# -- what is wrong with a checkpoint


def test_a_missing_run_folder_checkpoint_or_file_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match="nowhere is not there: name the folder of a run"):
        checkpoints.load(tmp_path / "nowhere", plugins())
    (tmp_path / "empty").mkdir()
    with pytest.raises(TransfuseError, match=r"recipe\.json is missing"):
        checkpoints.load(tmp_path / "empty", plugins())
    with pytest.raises(TransfuseError, match="empty holds no checkpoint: train it first"):
        _ = RunFolder(tmp_path / "empty").checkpoint
    for name in ("optimizer.safetensors", "model.safetensors", "state.json"):
        (run / "checkpoints" / "2" / name).unlink()
        if name == "optimizer.safetensors":  # nothing but training needs it
            checkpoints.load(run, plugins())
        with pytest.raises(TransfuseError, match=f"{name} is missing"):
            back(run)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_of_weights_is_named(run: Path, name: str, kept: int) -> None:
    path = run / "checkpoints" / "2" / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        TransfuseError, match=f"{name} is damaged .*restore it, or train again with another --out"
    ):
        back(run)


@pytest.mark.parametrize("name", ["recipe.json", "modalities.json", "checkpoints/2/state.json"])
@pytest.mark.parametrize("text", ["{", "", "[]", "{}", "null", "3", '{"format": 1}', "[" * 100_000, "\udcff"])
def test_damaged_json_is_named(run: Path, name: str, text: str) -> None:
    (run / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(TransfuseError, match=Path(name).name):
        checkpoints.load(run, plugins())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), 99),
        (("modalities",), []),
        (("modalities", "text"), {}),
        (("modalities", "text", "tokenizer"), "no tokenizer"),
        (("modalities", "image", "sizes"), "4x4"),
        (("modalities", "image_vq", "codec"), None),
        (("vocabulary",), {}),
        (("vocabulary",), []),
        (("vocabulary",), [{"name": "document"}]),
        (("vocabulary",), [{"name": "document", "size": 2, "labels": ["<document>", "</document>"]}]),
    ],
)
def test_damaged_facts_are_named(run: Path, place: tuple[str, ...], value: object) -> None:
    path = run / "modalities.json"
    described = json.loads(path.read_text())
    inner = described
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    described.pop("sha256")
    files.write_checked(path, described)
    with pytest.raises(TransfuseError, match=r"modalities\.json"):
        checkpoints.load(run, plugins())


@pytest.mark.parametrize("text", [b"", b"two", b"2/../..", b"-1", b"\xb2\n"])
def test_a_damaged_pointer_is_named(run: Path, text: bytes) -> None:
    (run / "checkpoints" / "latest").write_bytes(text)
    with pytest.raises(TransfuseError, match="checkpoints"):
        _ = RunFolder(run).checkpoint


def test_a_checkpoint_of_another_recipe_is_refused_with_the_weights_that_differ(run: Path, kit: Kit) -> None:
    wide = build_model(recipe_of(dim=64), kit.modalities(*NAMES), plugins())
    with pytest.raises(TransfuseError, match=r"the weights .* are \(.*\), and the recipe's model has \("):
        RunFolder(run).checkpoint.load_weights(wide)
    deep = build_model(recipe_of(layers=3), kit.modalities(*NAMES), plugins())
    with pytest.raises(
        TransfuseError, match=r"'backbone.blocks.2.* are missing; it was saved by another recipe"
    ):
        RunFolder(run).checkpoint.load_weights(deep)
    with pytest.raises(TransfuseError, match="have no place in the recipe's model"):
        RunFolder(run).checkpoint.load_weights(kit.model("text"))


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("modalities", "text", "waves"), 3, "modalities.text.waves: unknown key"),
        (("modalities", "text", "vocab"), 3, "modalities.text: vocab must be at least 256"),
        (("modalities", "text", "kind"), "prose", "modalities.text: unknown modality 'prose'"),
        (("model", "depth"), 3, "model.depth: unknown key"),
    ],
)
def test_a_recipe_that_todays_plugins_do_not_take_names_the_versions_that_took_it(
    run: Path, place: tuple[str, ...], value: object, fault: str
) -> None:
    def older(recipe: dict, described: dict) -> None:
        for step in place[:-1]:
            recipe = recipe[step]
        recipe[place[-1]] = value
        described["plugins"] = {**plugins().versions, "text": "tf-text 0.1", "gone": "tf-gone 2"}

    rewritten(run, older)
    with pytest.raises(TransfuseError, match=rf"recipe\.json: {fault}") as refused:
        checkpoints.load(run, plugins())
    made = str(refused.value).splitlines()[-1]
    assert made.startswith(
        "This run was made with tf-gone 2 (now none), tf-text 0.1 (now plugin 'text'): install that again, "
    )


def test_a_refused_checkpoint_changes_no_weight(run: Path, kit: Kit) -> None:
    deep = build_model(recipe_of(layers=3), kit.modalities(*NAMES), plugins())
    before = {name: value.clone() for name, value in deep.state_dict().items()}
    with pytest.raises(TransfuseError):
        RunFolder(run).checkpoint.load_weights(deep)
    assert same(deep.state_dict(), before)


def test_an_optimiser_of_another_model_is_refused(model: Model) -> None:
    optimizer = adam(model)
    with pytest.raises(TransfuseError, match="of a parameter 'elsewhere', which the model has not"):
        restore_optimizer(model, optimizer, {"elsewhere/exp_avg": torch.zeros(2)})
    with pytest.raises(TransfuseError, match=r"'tokens.weight/exp_avg' is \(2,\), and the parameter"):
        restore_optimizer(model, optimizer, {"tokens.weight/exp_avg": torch.zeros(2)})


def test_what_a_run_folder_has_read_it_keeps_until_it_writes(run: Path, model: Model) -> None:
    folder = RunFolder(run)
    described, checkpoint = folder.description, folder.checkpoint
    (run / "modalities.json").write_text("{")
    (run / "checkpoints/2/state.json").write_text("{")
    assert folder.description is described
    assert folder.checkpoint is checkpoint
    folder.write_description(recipe_of(), model, {"note": "begun again"})
    assert folder.description == {**described, "note": "begun again"}
    write_checkpoint(folder, 3, model)
    assert folder.checkpoint.state["step"] == 3
    assert folder.checkpoint.state["files"].keys() == {"model.safetensors"}
    assert folder == RunFolder(run)


# -- integrity


def one_bit(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place // 8 % len(data)] ^= 1 << place % 8
    path.write_bytes(data)


FILES = ("recipe.json", "modalities.json", "checkpoints/2/model.safetensors", "checkpoints/2/state.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", range(7))
def test_one_flipped_bit_anywhere_is_found_and_named(run: Path, name: str, at: int) -> None:
    path = run / name
    whole = path.read_bytes()
    one_bit(path, at * (8 * len(whole) // 7) + at)
    try:
        if json.loads(path.read_bytes()) == json.loads(whole):
            return  # a space more is the same JSON
    except ValueError:
        pass
    with pytest.raises(TransfuseError, match=Path(name).name):
        checkpoints.load(run, plugins())


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_file_of_another_step_is_found(run: Path, model: Model, name: str) -> None:
    folder = RunFolder(run)
    train(model, optimizer := adam(model), range(2, 3))
    write_checkpoint(folder, 3, model, optimizer, {"progress": {"step": 3}})
    (run / "checkpoints/3" / name).write_bytes((run / "checkpoints/2" / name).read_bytes())
    with pytest.warns(UserWarning, match=f"3/{name} is damaged .*; going on from step 2, which is whole"):
        assert RunFolder(run).sound_checkpoint().state["step"] == 2
    (run / "checkpoints/3").rename(run / "checkpoints/4")
    (run / "checkpoints/latest").write_text("4")
    with pytest.warns(
        UserWarning, match=r"4/state\.json is of step 3, or names no files: .*; going on from step 2"
    ):
        assert RunFolder(run).checkpoint.state["step"] == 2


def test_what_only_looks_at_a_model_minds_no_damaged_optimiser(run: Path) -> None:
    one_bit(run / "checkpoints/2/optimizer.safetensors", 999)
    checkpoints.load(run, plugins())
    with pytest.raises(TransfuseError, match=r"optimizer\.safetensors is damaged"):
        RunFolder(run).sound_checkpoint()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(run: Path, model: Model, value: float) -> None:
    with torch.no_grad():
        model.tokens.weight[0, 0] = value
    save(run, model, adam(model), step=5)
    with pytest.raises(TransfuseError, match=r"'tokens.weight' holds NaN or infinity: the run had diverged"):
        checkpoints.load(run, plugins())


def test_weights_of_another_dtype_are_refused(run: Path, model: Model, kit: Kit) -> None:
    folder = RunFolder(run)
    write_checkpoint(folder, 6, model.to(torch.bfloat16))
    with pytest.raises(TransfuseError, match=r"are torch.bfloat16, and the recipe's model has torch.float32"):
        checkpoints.load(run, plugins())


def test_codecs_with_a_flipped_bit_are_named(kit: Kit, tmp_path: Path) -> None:
    checkpoints.save_codecs(tmp_path, kit.modalities("image_vq"))
    one_bit(tmp_path / "image_vq.safetensors", 9999)
    fresh = plugins().choose("modality", SECTIONS["image_vq"], "image_vq").build(name="image_vq")
    with pytest.raises(TransfuseError, match=r"image_vq\.safetensors is damaged"):
        checkpoints.restore_codecs(tmp_path, {"image_vq": fresh})


# -- crashes


@pytest.mark.parametrize("next_step", [2, 3])
def test_a_crash_at_any_point_leaves_the_old_checkpoint_or_the_new(
    run: Path, model: Model, next_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception): ...

    replace, left = os.replace, [0]

    def dying(source: Path, target: Path) -> None:
        if left[0] == 0:
            raise Crash
        left[0] -= 1
        replace(source, target)

    optimizer = adam(model)
    old = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer, range(9, 10))
    crashes = 0
    for survived in range(10):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", dying)
            left[0] = survived
            try:
                write_checkpoint(RunFolder(run), next_step, model, optimizer)
            except Crash:
                crashes += 1
            else:
                break
        other, _, saved = back(run)
        assert saved.state["step"] == 2
        assert same(other.state_dict(), old)
    _, _, saved = back(run)
    assert saved.state["step"] == next_step
    assert crashes == (3 if next_step == 3 else 0)  # state.json, the folder, latest; a saved step is kept
    kept = ["2", "3", "latest"] if next_step == 3 else ["2", "latest"]  # the one before is kept too
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == kept


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["b", "a"]

    def dying(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        files.write_json(tmp_path / "a.json", {})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": 2}


# -- codecs apart, and no pickle


def test_codecs_come_back_into_modalities_of_the_same_settings(kit: Kit, tmp_path: Path) -> None:
    modalities = kit.modalities(*NAMES)
    checkpoints.save_codecs(tmp_path, modalities)
    fresh = {name: recipe_of().modalities[name].build(name=name) for name in NAMES}
    checkpoints.restore_codecs(tmp_path, fresh)
    for name, modality in modalities.items():
        assert fresh[name].facts() == modality.facts()
        assert same(fresh[name].state_dict(), modality.state_dict())
        raw = "two dogs" if name == "text" else picture(0)
        assert (fresh[name].encode(raw) == modality.encode(raw)).all()


def test_codecs_that_are_missing_damaged_or_of_other_settings_are_named(kit: Kit, tmp_path: Path) -> None:
    def fresh(name: str, **settings: object) -> dict:
        chosen = plugins().choose("modality", {**SECTIONS["image_vq"], **settings}, name)
        return {name: chosen.build(name=name)}

    with pytest.raises(TransfuseError, match=r"codecs\.json is missing"):
        checkpoints.restore_codecs(tmp_path, fresh("image_vq"))
    checkpoints.save_codecs(tmp_path, kit.modalities("image_vq"))
    with pytest.raises(TransfuseError, match="no codec of modality 'imagevq'; did you mean 'image_vq'"):
        checkpoints.restore_codecs(tmp_path, fresh("imagevq"))
    wide = {"name": "vq", "codes": 8, "width": 16, "channels": 2}
    with pytest.raises(TransfuseError, match=r"image_vq\.safetensors.*'codec\..*' (are|is)"):
        checkpoints.restore_codecs(tmp_path, fresh("image_vq", codec=wide))
    listing = files.read_checked(tmp_path / "codecs.json", "codecs")
    files.write_checked(tmp_path / "codecs.json", {**listing, "modalities": {"image_vq": {}}})
    with pytest.raises(
        TransfuseError, match=r"codecs\.json: modality 'image_vq' \(vq of .*\): restore raised KeyError"
    ):
        checkpoints.restore_codecs(tmp_path, fresh("image_vq"))


def test_no_pickle_is_written_or_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for module in (pickle, torch):
        for name in ("load", "loads", "dump", "dumps", "save", "Unpickler", "Pickler"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refused)
    model, optimizer, _ = back(run)
    save(run, model, optimizer, step=3)
    assert {p.suffix for p in run.rglob("*") if p.is_file()} == {".json", ".safetensors", ""}
    assert (run / "checkpoints" / "latest").read_text() == "3"
    for source in (ROOT / "core" / "transfuse").rglob("*.py"):
        assert "import pickle" not in source.read_text()
        assert "torch.load" not in source.read_text()


def test_the_plugins_that_are_installed_load_a_run(run: Path) -> None:
    _, model = checkpoints.load(str(run), Plugins.load(only=("text", "image", "diffusion", "vq")))
    assert list(model.modalities) == list(NAMES)
