"""Plugins, registries, stores and drawings: what is said of one that fails, done as it says."""
# ruff: noqa: UP031 (lines of JSON, which are full of braces)

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from tests.cures.situation import TINY, Situation, cures
from tests.cures.texts import ROOT, texts_with_cures

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def plugin(
    s: Situation, monkeypatch: pytest.MonkeyPatch, name: str, module: str, text: str | None = None
) -> None:
    """An installed distribution ``tf-NAME`` whose plugin is a module of this text; None: of none."""
    facts = s.folder / "site" / f"tf_{name}-0.1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tf-{name}\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text(f"[transfuse.plugins]\n{name} = {module}\n")
    if text is not None:
        s.write(f"site/{module}.py", text)
    monkeypatch.syspath_prepend(s.folder / "site")


def brought(extra: str) -> set[str]:
    """The distributions of an extra, and of those that it has in it."""
    inner = {each for one in EXTRAS[extra] for each in re.findall(r"transfuse\[([\w,]+)\]", one)}
    own = {re.split(r"[^\w.-]", one)[0] for one in EXTRAS[extra]} - {"transfuse"}
    return own.union(*(brought(one) for names in inner for one in names.split(",")))


OFFER = """
from transfuse.plugin import Part, hookimpl
from transfuse_text.modality import Text, TextSettings

@hookimpl
def transfuse_modalities():
    return [Part("words", TextSettings, lambda settings, name="words": Text(settings, name), "words")]
"""


class TestPlugins:
    @cures("plugin_contents.py: Fix it")
    @pytest.mark.parametrize("way", ["fix", "uninstall", "disable"])
    def test_one_that_does_not_import(self, s: Situation, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        plugin(s, monkeypatch, f"video_{way}", f"tf_video_{way}")  # that one does not import is said once
        assert "Fix it" in s.works("recipes")
        if way == "fix":
            s.write("site/tf_video_fix.py", OFFER)
        elif way == "uninstall":
            s.delete("site/tf_video_uninstall-0.1.dist-info")
        else:
            s.write(
                "registry.yaml",
                s.finds(r"under (plugins\.disabled)").replace(".", ": {") + ": [video_disable]}\n",
            )
        assert "Fix it" not in s.works("recipes")

    @cures("plugins.py: {who} both provide")
    def test_two_of_one_offer(self, s: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        plugin(s, monkeypatch, "one", "tf_one_x", OFFER)
        plugin(s, monkeypatch, "two", "tf_two_x", OFFER)
        assert "both provide" in s.works("recipes")
        s.write("registry.yaml", "plugins: {disabled: [two]}\n")
        assert "both provide" not in s.works("recipes")

    @cures("plugins.py: plugins.disabled: no plugin")
    def test_a_disabled_one_misspelt(self, s: Situation) -> None:
        s.write("registry.yaml", "plugins: {disabled: [lamla]}\n")
        s.works("recipes")
        s.write("registry.yaml", "plugins: {disabled: [%s]}\n" % s.finds("did you mean '(.+)'"))
        assert "no plugin" not in s.works("recipes")

    @cures("plugins.py: {source}: no plugin")
    def test_a_chosen_one_misspelt(self, s: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRANSFUSE_PLUGINS", "text,imgae")
        s.refused("plugins", "list")
        monkeypatch.setenv("TRANSFUSE_PLUGINS", "text," + s.finds("did you mean '(.+)'"))
        s.works("plugins", "list")

    @cures("plugins.py: unknown {noun(kind)} {name}, {hint}")
    def test_data_of_a_plugin_that_is_gone(self, s: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        s.pets()
        s.works(*s.train())
        with monkeypatch.context() as patch:
            patch.setenv("TRANSFUSE_PLUGINS", "text,image,diffusion,llama,tiles,vq")
            s.refused("eval", "run")
        s.works("eval", "run")

    def test_every_extra_that_a_cure_installs_is_one(self) -> None:
        named = {
            extra for text in texts_with_cures() for extra in re.findall(r"transfuse\[(\w+)\]", text.template)
        }
        assert named
        assert named <= EXTRAS.keys()

    @cures("doctor.py: not installed; pip install")
    def test_what_doctor_says_of_packages(self, s: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        real = importlib.metadata.version
        gone = ("xformers", "zarr", "diffusers", "torchmetrics", "pycocoevalcap", "torch-fidelity", "lm-eval")

        def version(name: str) -> str:
            if name in gone:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr("transfuse_lab.commands.doctor.version", version)
        told = s.works("doctor")
        for name, extra in re.findall(
            r"package\t(\S+)\tnot installed; pip install 'transfuse\[(\w+)\]'", told
        ):
            assert name in brought(extra), (name, extra)


class TestStores:
    @pytest.fixture
    def packed(self, s: Situation) -> Situation:
        s.pets()
        s.works("data", "pack", "pets", "--out", "pets.zarr")
        return s

    def read(self, s: Situation) -> str:
        return s.works("train", "transfusion", "--data", "pets.zarr", "--dry-run", *TINY)

    def told(self, s: Situation) -> str:
        return s.refused("train", "transfusion", "--data", "pets.zarr", "--dry-run", *TINY)

    @cures("writer.py: store {place}: another store")
    @pytest.mark.parametrize("way", ["remove", "name"])
    def test_one_that_is_there(self, packed: Situation, way: str) -> None:
        packed.refused("data", "pack", "digits", "--out", "pets.zarr")
        if way == "remove":
            packed.delete("pets.zarr")
        packed.works("data", "pack", "digits", "--out", "pets.zarr" if way == "remove" else "other.zarr")

    @cures("writer.py: store {place}: something that is no store")
    def test_something_else_there(self, s: Situation) -> None:
        s.pets()
        s.write("mine.zarr/letter.txt", "mine")
        s.refused("data", "pack", "pets", "--out", "mine.zarr")
        s.works("data", "pack", "pets", "--out", "other.zarr")

    @cures("writer.py: store {place} was begun otherwise")
    @pytest.mark.parametrize("way", ["repeat", "delete"])
    def test_one_that_was_begun_otherwise(self, s: Situation, way: str) -> None:
        s.pets()
        s.works("data", "pack", "pets", "--out", "pets.zarr", "--part", "1/2")
        s.refused("data", "pack", "pets", "--out", "pets.zarr", "--parts", "3")
        if way == "delete":
            s.delete("pets.zarr")
        s.works("data", "pack", "pets", "--out", "pets.zarr", "--parts", "2" if way == "repeat" else "3")
        self.read(s)

    @cures("reader.py: store {place}: no {MANIFEST}")
    def test_one_that_was_never_finished(self, packed: Situation) -> None:
        packed.delete("pets.zarr/manifest.json")
        self.told(packed)
        packed.works("data", "pack", "pets", "--out", "pets.zarr")
        self.read(packed)

    @cures("reader.py: restore it, or delete the store")
    @pytest.mark.parametrize("way", ["restore", "delete"])
    def test_one_whose_manifest_is_damaged(self, packed: Situation, way: str) -> None:
        whole = Path("pets.zarr/manifest.json").read_text()
        packed.write("pets.zarr/manifest.json", whole[:-40])
        self.told(packed)
        if way == "restore":
            packed.write("pets.zarr/manifest.json", whole)
        else:
            packed.delete(packed.finds("(delete) the store").replace("delete", "pets.zarr"))
            packed.works("data", "pack", "pets", "--out", "pets.zarr")
        self.read(packed)

    @cures("tools.py: merge: name two stores")
    def test_one_is_not_merged(self, packed: Situation) -> None:
        packed.refused("data", "merge", "pets.zarr", "--out", "both.zarr")
        packed.works("data", "merge", "pets.zarr", "pets.zarr", "--out", "both.zarr")

    @cures("tools.py: store {place}: {len(parts)} parts do not become")
    @pytest.mark.parametrize("way", ["fewer", "more parts"])
    def test_more_stores_than_parts(self, s: Situation, way: str) -> None:
        s.pets()
        s.works("data", "pack", "pets", "--out", "pets.zarr", "--parts", "2")
        s.refused("data", "split", "pets.zarr", "--into", "3", "--out", "some.zarr")
        if way == "fewer":
            s.works("data", "split", "pets.zarr", "--into", s.finds(r"from 2 to (\d)"), "--out", "some.zarr")
        else:
            s.works("data", "pack", "pets", "--out", "more.zarr", s.finds(r"with (--parts)"), "3")
            s.works("data", "split", "more.zarr", "--into", "3", "--out", "some.zarr")

    @cures("stores.py: --codecs is missing")
    def test_parts_are_encoded_by_the_same_codecs(self, s: Situation) -> None:
        s.pets()
        part = (
            "data",
            "pack",
            "pets",
            "--recipe",
            "transfusion",
            *TINY,
            "--out",
            "pets.zarr",
            "--part",
            "1/2",
        )
        s.refused(*part)
        s.works(
            *s.finds("`transfuse (train-codec)`").split(),
            "transfusion",
            "--data",
            "pets",
            *TINY,
            "--out",
            "fitted",
        )
        s.works(*part, "--codecs", "fitted")

    @cures("stored.py: --codecs {folder}: role")
    def test_a_run_of_other_settings(self, s: Situation) -> None:
        s.pets()
        s.works(*s.train())
        pack = ("data", "pack", "pets", "--recipe", "transfusion", "--codecs", "run", "--out", "pets.zarr")
        s.refused(*pack, *TINY, "--set", "text.vocab=281")
        s.works(*pack, *TINY)

    @cures("listings.py: {listing}: larger than")
    def test_a_listing_that_is_too_large(self, s: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        s.pets(captions=False)
        s.write(
            "pets/captions.jsonl", "".join('{"image": "p%d.png", "caption": "a"}\n' % i for i in range(6))
        )
        monkeypatch.setattr("transfuse_lab.datasets.listings.LARGEST_LISTING", 200)
        s.refused("train", "transfusion", "--data", "pets", "--dry-run", *TINY)
        s.write(
            "pets/captions.jsonl", "".join('{"image": "p%d.png", "caption": "a"}\n' % i for i in range(5))
        )
        s.delete("pets/p5.png")
        s.works("train", "transfusion", "--data", "pets", "--dry-run", *TINY)


class TestDrawings:
    @cures("mask_drawing.py: ({len(lines)} positions")
    def test_a_mask_too_large_for_a_terminal(self, s: Situation) -> None:
        command = ("mask", "same(doc)", "--layout", "text:400")
        s.works(*command)
        s.works(*command, "--out", "m." + s.finds("write a (PNG)").lower())

    @cures("recipe_layout.py: {' and '")
    def test_a_document_too_large_to_draw(self, s: Situation) -> None:
        s.pets(side=64)
        s.refused(
            "mask",
            "--recipe",
            "transfusion",
            "--data",
            "pets",
            "--set",
            "image.codec=pixel",
            "--set",
            "image.patcher.patch=1",
        )
        s.works("mask", "same(doc)", s.finds(r"over a (--layout)"), "text:5")
