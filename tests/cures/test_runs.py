"""Runs and codecs in folders: damaged, held by another, of other settings; and what comes next."""

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transfuse.files import digest, read_checked, write_checked
from transfuse_image.codecs import autoencoder_training
from transfuse_lab.lock import locked
from transfuse_text.modality import TextSettings

from tests.cures.situation import Situation, cures
from tests.tiny.recipes import sets
from tests.tiny.runs import rewritten


@pytest.fixture
def run(s: Situation) -> Situation:
    """A trained run of pets; a copy of it lies beside it."""
    s.pets()
    s.works(*s.train())
    shutil.copytree("run", "kept")
    return s


def flip(name: str) -> None:
    data = bytearray(Path(name).read_bytes())
    data[len(data) // 2] ^= 1
    Path(name).write_bytes(data)


DAMAGED = (
    "recipe.json", "modalities.json", "checkpoints/4/state.json", "checkpoints/4/model.safetensors",
    "checkpoints/4/optimizer.safetensors",
)  # fmt: skip


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGED[1:])
    @pytest.mark.parametrize("way", ["restore", "again"])
    @cures("files.py: restore it, or train again")
    def test_a_damaged_file(self, run: Situation, name: str, way: str) -> None:
        flip(f"run/{name}")
        assert f"run/{name} is damaged" in run.refused(*run.train())
        self.mend(run, name, way)

    def mend(self, run: Situation, name: str, way: str) -> None:
        if way == "restore":
            shutil.copy(f"kept/{name}", f"run/{name}")
            run.works(*run.train("train.steps=5"))
        else:
            run.works(*run.train(out="again"))

    @pytest.mark.parametrize("name", DAMAGED[2:])
    @cures("files.py: restore it, or train again")
    def test_a_lost_file(self, run: Situation, name: str) -> None:
        run.delete(f"run/{name}")
        if name.endswith("json"):
            run.said.append("restore it, or train again with another --out")  # it says that none is there
        run.refused(*run.train())
        self.mend(run, name, "again")

    @cures("run_folder.py: {self.recipe_file} is not what")
    @pytest.mark.parametrize("way", ["restore", "sample", "train"])
    def test_a_recipe_edited_by_hand(self, run: Situation, way: str) -> None:
        text = Path("run/recipe.json").read_text()
        Path("run/recipe.json").write_text(text.replace('"lr": 0.01', '"lr": 0.02'))
        run.refused("eval", "run")
        shutil.copy("kept/recipe.json", "run/recipe.json")
        if way == "restore":
            run.works("eval", "run")
        elif way == "sample":
            option = run.finds(r"transfuse sample (--set)", -1)
            run.works(
                "sample", "run", "--prompt", "pet", option, "image.sampler.evaluations=2", "--out", "x.png"
            )
        else:
            run.works(*run.train("train.lr=0.02", "train.steps=5"))

    @cures("weights.py: {where}: {name} holds NaN")
    def test_weights_that_diverged(self, run: Situation) -> None:
        file = Path("run/checkpoints/4/model.safetensors")
        save_file({name: tensor / 0 for name, tensor in load_file(file).items()}, file)
        state = read_checked(file.with_name("state.json"), "state")
        write_checked(
            file.with_name("state.json"), {**state, "files": {**state["files"], file.name: digest(file)}}
        )
        run.refused(*run.train("train.steps=5"))
        assert run.finds("a lower (train.lr) and another --out")
        run.works(*run.train("train.lr=0.001", out="again"))

    @cures("run_folder.py: : the modality has changed since")
    def test_a_modality_that_has_changed(self, run: Situation) -> None:
        """As where a plugin's next version has fewer ids than the run was trained with."""
        file = Path("run/modalities.json")
        found = read_checked(file, "run")
        (row,) = (row for row in found["vocabulary"] if row["name"] == "text")
        row["size"] += 1
        write_checked(file, found)
        assert "ids of 'text', and the recipe's modality now has" in run.refused("eval", "run")
        assert run.finds("train into another (--out)") == "--out"
        run.works(*run.train(out="again"))

    @cures("This run was made with")
    @pytest.mark.parametrize("way", ["default", "again"])
    @pytest.mark.parametrize("version", ["transfuse 0.0", None])
    def test_a_setting_that_its_plugin_no_longer_has(
        self, run: Situation, monkeypatch: pytest.MonkeyPatch, version: str | None, way: str
    ) -> None:
        def older(recipe: dict[str, Any], described: dict[str, Any]) -> None:
            recipe["modalities"]["text"]["waves"] = 3
            described["plugins"]["text"] = version or described["plugins"]["text"]

        rewritten(Path("run"), older)
        sample = ("sample", "run", "--prompt", "pet", "--out", "x.png")
        for command in (("eval", "run"), sample, ("doctor", "run"), run.train()):
            told = run.refused(*command)
            assert "run/recipe.json: modalities.text.waves: unknown key, " in told
            assert ("transfuse 0.0 (now transfuse " if version else "of the same versions: install") in told
        if way == "again":
            run.works(*run.train(out=run.finds("train again with another --(out)")))
            return
        assert run.finds("let its plugin take the setting .a field with a (default)")

        class Mended(TextSettings):
            waves: int = 5

        monkeypatch.setattr("transfuse_text.plugin.TextSettings", Mended)
        run.works("eval", "run")
        run.works(*sample)

    @cures("run_folder.py: {self.path} holds no checkpoint", "run_folder.py: restore checkpoints/latest")
    @pytest.mark.parametrize("command", ["eval", "train"])
    def test_no_latest(self, run: Situation, command: str) -> None:
        run.delete("run/checkpoints/latest")
        run.refused("eval", "run")
        shutil.copy("kept/checkpoints/latest", f"run/{run.finds('restore (checkpoints/latest)')}")
        run.works("eval", "run")

    @cures("run_folder.py: train it first")
    def test_a_run_that_was_not_trained(self, run: Situation) -> None:
        run.delete("run/checkpoints")
        run.refused("eval", "run")
        run.works(*run.train())
        run.works("eval", "run")

    @cures("training.py: {run.path} holds a run of which parts are missing")
    @pytest.mark.parametrize("way", ["restore", "out"])
    def test_parts_of_a_run(self, run: Situation, way: str) -> None:
        run.delete("run/modalities.json")
        run.refused(*run.train())
        if way == "restore":
            shutil.copy(f"kept/{run.finds(r'missing .(modalities.json)')}", "run/modalities.json")
        run.works(*run.train(out="run" if way == "restore" else "other"))


class TestOtherSettings:
    @cures("training.py: use another --out")
    @pytest.mark.parametrize("way", ["out", "repeat", "from"])
    def test_another_run(self, run: Situation, way: str) -> None:
        run.refused(*run.train("train.ema=0.9"))
        if way == "from":
            option = run.finds(r"`(--from run)`")
            run.works(*run.train("train.ema=0.9", out="other"), *option.split())
        else:
            run.works(*(run.train("train.ema=0.9", out="other") if way == "out" else run.train()))

    def test_settings_that_may_change(self, run: Situation) -> None:
        """Every setting that the message says a run may go on under."""
        told = run.refused(*run.train("train.ema=0.9"))
        (keys,) = re.findall(r"under another ([^;]+);", told)
        new = {
            "lr": "0.02", "warmup": "0.2", "final_lr": "0.5", "cooldown": "0.2", "clip": "0.5", "budget": "200",
            "too_long": "skip", "steps": "6", "flops": None, "look_ahead": "3", "save_every": "9", "keep_last": "3",
            "keep_every": "2", "skips": "1", "shard": "1",
        }  # fmt: skip
        attention, *keys = keys.split(", ")
        assert attention == "attention"
        assert [key.strip().removeprefix("train.") for key in keys] == list(new)
        run.works(
            *run.train("attention=dense", *(f"train.{key}={value}" for key, value in new.items() if value))
        )

    @cures("training.py: use another --out")
    @pytest.mark.parametrize("way", ["out", "repeat"])
    def test_other_data(self, run: Situation, way: str) -> None:
        run.picture("pets/new.png")
        run.write("pets/new.txt", "a new pet")
        run.refused(*run.train())
        if way == "out":
            run.works(*run.train(out="other"))
        else:
            run.delete("pets/new.png")
            run.delete("pets/new.txt")
            run.works(*run.train())

    @cures("trained.py: {folder.path}: its data set")
    def test_eval_on_data_that_changed(self, run: Situation) -> None:
        run.picture("pets/new.png")
        run.write("pets/new.txt", "a new pet")
        run.refused("eval", "run")
        run.works("eval", "run", run.finds(r"say (--data)"), "pets")

    @cures("trained.py: {error}; to evaluate")
    def test_eval_of_a_run_whose_data_moved(self, run: Situation) -> None:
        (run.folder / "pets").rename(run.folder / "animals")
        run.refused("eval", "run")
        run.works("eval", "run", run.finds(r"say (--data)"), "animals")

    @cures("growing.py: --from {run.path}: role")
    @pytest.mark.parametrize("way", ["codec", "without"])
    def test_another_codec(self, run: Situation, way: str) -> None:
        other = run.train(recipe="chameleon", out="other")
        run.refused(*other, "--from", "run")
        run.works(
            *(other if way == "without" else run.train(out="other")),
            *(["--from", "run"] if way == "codec" else []),
        )

    @cures("growing.py: --from {run.path}: model.{key}")
    @pytest.mark.parametrize("way", ["as there", "without"])
    def test_another_width(self, run: Situation, way: str) -> None:
        other = run.train("model.dim=64", out="other")
        run.refused(*other, "--from", "run")
        as_there = run.train(run.finds(r"say --set (model\.dim=\d+)"), out="other")
        run.works(
            *(as_there if way == "as there" else other), *(["--from", "run"] if way == "as there" else [])
        )

    @cures("growing.py: --from {run.path}: train.lr_scale", "parameter_groups.py: it is for train.lr_scale")
    def test_nothing_that_is_new(self, run: Situation) -> None:
        frozen = run.train("train.lr_scale.inherited=0", out="other")
        run.refused(*frozen, "--from", "run")
        run.refused(*frozen)
        slower = run.train("train.lr_scale.inherited=0.5", out="other")
        run.works(*slower, run.finds(r"say (--from) RUN"), "run")

    @cures("per_modality.py: model.block.own names")
    def test_a_role_that_there_is_not(self, s: Situation) -> None:
        s.pets()
        block = "model.block={name: per-modality, own: [%s]}"
        s.refused(*s.train(block % "imag"))
        s.works(*s.train(block % s.finds(r"did you mean '(\w+)'")))

    @cures("interleaved.py: data {listing}: not there")
    def test_a_listing_that_went(self, s: Situation) -> None:
        s.pets(captions=False)
        line = '{"items": [{"text": "pet"}, {"image": "p%d.png"}]}\n'
        s.write("pets/documents.jsonl", "".join(line % i for i in range(6)))
        s.works(*s.train())
        s.delete("pets/documents.jsonl")
        s.refused("eval", "run")
        s.write("pets/documents.jsonl", "".join(line % i for i in range(6)))
        s.works(*s.train("train.steps=5"))


class TestCodecs:
    @pytest.fixture
    def codecs(self, s: Situation) -> Situation:
        s.pets()
        s.works("train-codec", "chameleon", "--data", "pets", "--out", "codecs", *sets("chameleon"))
        shutil.copytree("codecs", "kept")
        return s

    def command(self, *more: str, out: str = "codecs") -> tuple[str, ...]:
        return ("train-codec", "chameleon", "--data", "pets", "--out", out, *sets("chameleon", *more))

    def test_what_comes_next(self, codecs: Situation) -> None:
        words = shlex.split(codecs.finds("next: transfuse (.*)").replace("RUN", "run"))
        codecs.works(*words)

    @cures("train_codec.py: {out} holds these codecs already")
    def test_codecs_that_are_there(self, codecs: Situation) -> None:
        codecs.works(*self.command())
        codecs.delete(codecs.finds("(codecs) holds these codecs already; delete it"))
        assert "holds these" not in codecs.works(*self.command())

    @cures("train_codec.py: --out {out} holds a run")
    def test_codecs_for_the_folder_of_a_run(self, codecs: Situation) -> None:
        codecs.works(*codecs.train())
        codecs.refused(*self.command(out="run"))
        codecs.works(*self.command(out="own"))

    @cures("codecs.py: {folder} holds codecs fit otherwise")
    @pytest.mark.parametrize("way", ["fit", "repeat"])
    def test_codecs_of_other_settings(self, codecs: Situation, way: str) -> None:
        run = codecs.train("image.codec.steps=11", recipe="chameleon")
        codecs.refused(*run, "--codecs", "codecs")
        if way == "fit":
            assert codecs.finds("(fit these into another folder)")
            codecs.works(*self.command("image.codec.steps=11", out="other"))
            codecs.works(*run, "--codecs", "other")
        else:
            codecs.works(*codecs.train(recipe="chameleon"), "--codecs", "codecs")

    @cures("codecs.py: {folder} holds no codec of modality")
    def test_codecs_of_other_roles(self, codecs: Situation) -> None:
        both = codecs.train(recipe="chameleon")
        codecs.works(
            "train-codec",
            "chameleon",
            "--data",
            "pets",
            "--out",
            "texts",
            *sets("chameleon", without="image"),
        )
        codecs.refused(*both, "--codecs", "texts")
        codecs.works(*both, "--codecs", "codecs")

    @cures("codecs.py: delete the folder")
    def test_damaged_codecs(self, codecs: Situation) -> None:
        flip("codecs/codecs.json")
        codecs.refused(*self.command())
        codecs.delete("codecs")
        codecs.works(*self.command())

    @cures(
        "autoencoder_training.py: the autoencoder's training diverged",
        "kept_fits.py: {self.folder} holds another",
    )
    def test_codecs_whose_training_diverged(self, s: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lower rate is another codec's training: what was kept of the first is in the way, and that is said."""
        s.pets()
        real = autoencoder_training.optimizer_tensors

        def diverged(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
            wild = optimizer.param_groups[0]["lr"] > 1e-4 and (s.folder / "codecs/fitting/image/1").is_dir()
            return {key: value / 0 if wild else value for key, value in real(module, optimizer).items()}

        monkeypatch.setattr(autoencoder_training, "optimizer_tensors", diverged)
        every = "train.save_every=0.000001"
        s.refused(*self.command(every))
        lower = f"image.{s.finds('lower (codec.lr)')}=0.00001"
        s.refused(*self.command(every, lower))
        s.delete(s.finds(r"delete (\S+) to begin anew"))
        s.works(*self.command(every, lower))


class TestPlaces:
    @cures("output_paths.py: {option} {folder}: {in_bytes(size)} are needed")
    @pytest.mark.parametrize("way", ["room", "disk"])
    def test_too_little_room(self, s: Situation, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        s.pets()
        real = shutil.disk_usage

        def usage(place: Path) -> object:
            return real(place)._replace(free=1 if "small" in str(place) else 10**12)

        (s.folder / "small").mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", usage)
            s.refused(*s.train(out="small/run"))
            if way == "disk":
                s.works(*s.train(out="large/run"))
        if way == "room":
            s.works(*s.train(out="small/run"))

    @cures("lock.py: {what} is being written")
    @pytest.mark.parametrize("way", ["wait", "out"])
    def test_a_folder_in_use(self, s: Situation, way: str) -> None:
        s.pets()
        with locked(Path("run")):
            s.refused(*s.train())
            if way == "out":
                s.works(*s.train(out="other"))
        if way == "wait":
            s.works(*s.train())

    @cures("output_paths.py: {option} {folder} cannot be a folder")
    def test_a_file_in_its_place(self, s: Situation) -> None:
        s.pets()
        s.write("run", "a file")
        s.refused(*s.train())
        s.works(*s.train(out="another"))

    @cures("output_paths.py: {option} {path}: cannot be written: {fault}")
    def test_a_picture_in_the_place_of_a_folder(self, s: Situation) -> None:
        (s.folder / "m.png").mkdir()
        s.refused("mask", "same(doc)", "--layout", "text:3", "--out", "m.png")
        s.works("mask", "same(doc)", "--layout", "text:3", "--out", "n.png")

    @cures("files.py: {path} cannot be written")
    @pytest.mark.parametrize("way", ["room", "place"])
    def test_a_full_disk(self, run: Situation, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        real = os.replace

        def full(partial: object, path: object) -> None:
            if "run/checkpoints/5" in str(path):
                raise OSError(28, "No space left on device")
            real(partial, path)  # type: ignore

        more = run.train("train.steps=5")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            done = run._done(more)
            assert done.exit_code == 2
        if way == "room":
            assert "going on after step 4" in run.works(*more)
        else:
            run.works(*run.train("train.steps=5", out="elsewhere"))
