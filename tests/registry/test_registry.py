"""Registry files: their order, their shape, and what plugins bring."""
# ruff: noqa: E501 (a fault and its sentence stand on one line)

import os
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from transfuse.config.parts import Part
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file, standard_files
from transfuse.registry.plugins import Plugins, PluginWarning

Overlaid = Callable[[str], Registry]
Make = Callable[..., types.SimpleNamespace]
MakePart = Callable[[str, str], tuple[str, Part]]
Install = Callable[..., None]


class TestFiles:
    def test_the_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("TRANSFUSE_REGISTRY", raising=False)
        assert standard_files() == (packaged_file(),)
        (tmp_path / "registry.yaml").write_text("")
        monkeypatch.setenv("TRANSFUSE_REGISTRY", "env.yaml")
        assert standard_files("extra.yaml") == (
            packaged_file(),
            Path("registry.yaml"),
            Path("env.yaml"),
            Path("extra.yaml"),
        )

    def test_the_same_file_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(packaged_file().parent)
        monkeypatch.setenv("TRANSFUSE_REGISTRY", str(packaged_file()))
        assert standard_files("registry.yaml") == (packaged_file(),)
        link = tmp_path / "link.yaml"
        os.symlink(packaged_file(), link)
        assert standard_files(link) == (packaged_file(),)

    def test_a_file_that_is_named_must_be_there(
        self, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRANSFUSE_REGISTRY", str(tmp_path / "none.yaml"))
        with pytest.raises(TransfuseError, match=r"none.yaml is missing"):
            Registry.load(plugins, standard_files())

    def test_higher_files_win(self, plugins: Plugins, small: Path, tmp_path: Path) -> None:
        low, high = tmp_path / "low.yaml", tmp_path / "high.yaml"
        low.write_text(
            "masks: {causal: full, other: none}\nrecipes: {transfusion: {model: {dim: 64, heads: 2}}}"
        )
        high.write_text("masks: {causal: none}\nrecipes: {transfusion: {model: {dim: 32}}}")
        registry = Registry.load(plugins, [small, low, high])
        assert str(registry.mask("causal")) == str(registry.mask("other")) == "none"
        model = registry.recipe("transfusion").model
        assert (model.dim, model.heads, model.layers) == (32, 2, 4)

    def test_disabled_plugins_are_read_from_the_files(self, install: Install, tmp_path: Path) -> None:
        install("tf-video", "0.1", video="raise RuntimeError('imported')")
        over = tmp_path / "over.yaml"
        over.write_text(
            "plugins: {disabled: [video, text, image, diffusion, llama, scenes, tiles, vq, adapters, lab]}"
        )
        registry = Registry.load(None, [packaged_file(), over])
        assert {row.status for row in registry.plugins.listing()} == {"disabled"}


class TestCompared:
    """Which recipes are compared where none are named."""

    def test_the_topmost_file_that_has_the_list_decides_and_keeps_its_order(self, overlaid: Overlaid) -> None:
        assert Registry.load(None, [packaged_file()]).compared() == ("transfusion", "chameleon")
        assert overlaid("masks: {other: full}").compared() == ()
        assert overlaid("compare: [chameleon, transfusion]").compared() == ("chameleon", "transfusion")

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("compare:\n  - chameleon\n  - transfuse\n", "over.yaml:3: compare[1]: unknown recipe 'transfuse', did you mean 'transfusion'?"),
            ("compare: [chameleon, chameleon]\n", "over.yaml:1: compare[1]: recipe 'chameleon' stands twice"),
        ],
    )  # fmt: skip
    def test_faults_have_their_place_and_are_found_by_doctor(
        self, overlaid: Overlaid, text: str, sentence: str
    ) -> None:
        registry = overlaid(text)
        with pytest.raises(TransfuseError) as fault:
            registry.compared()
        assert str(fault.value).endswith(sentence)
        assert str(fault.value) in map(str, registry.faults())

    @pytest.mark.parametrize("value", ["chameleon", "{chameleon: {}}", "[1]", "[null]"])
    def test_it_is_a_list_of_names(self, overlaid: Overlaid, value: str) -> None:
        with pytest.raises(TransfuseError, match=r"over.yaml:1: compare.*should be (a list|text)"):
            overlaid(f"compare: {value}")

    def test_no_plugin_says_what_is_compared(self, make_module: Make) -> None:
        brought = make_module(registry={"compare": ["mine"], "recipes": {"mine": {"extends": "transfusion"}}})
        with pytest.raises(TransfuseError, match="returned an unknown key 'compare' from transfuse_registry"):
            Plugins.of({"mine": brought})


class TestShape:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("modalites: {}\n", "over.yaml:1: modalites: unknown key, did you mean 'modalities'?"),
            ("- a\n", "over.yaml:1: should be a mapping of settings, not ['a']"),
            ("hello\n", "over.yaml:1: should be a mapping of settings, not 'hello'"),
            ("\nplugins: {disable: [x]}\n", "over.yaml:2: plugins.disable: unknown key, did you mean 'disabled'?"),
            ("plugins: {disabled: video}\n", "over.yaml:1: plugins.disabled: should be a list, not 'video'"),
            ("plugins:\n  disabled: [1]\n", "over.yaml:2: plugins.disabled[0]: should be text, not 1"),
            ("modalities: [x]\n", "over.yaml:1: modalities: should be a mapping, not ['x']"),
            ("modalities:\n  x: text\n", "over.yaml:2: modalities.x: should be a mapping, not 'text'"),
            ("masks:\n  x: 3\n", "over.yaml:2: masks.x: should be a mask's name or an expression, not 3"),
            ("masks:\n  x: sam(doc)\n", "over.yaml:2: masks.x: "),
            ("masks:\n  full: none\n", "over.yaml:2: masks.full: 'full' is a mask already"),
            ("masks:\n  a b: full\n", "over.yaml:2: masks.a b: string should match pattern"),
            ("recipes:\n  x: 3\n", "over.yaml:2: recipes.x: should be a mapping of settings, not 3"),
            ("recipes:\n  x: {lss: {}}\n", "over.yaml:2: recipes.x.lss: unknown key, did you mean 'loss'?"),
            ("recipes:\n  x:\n    model: 3\n", "over.yaml:3: recipes.x.model: should be a mapping, not 3"),
            ("recipes:\n  x:\n    modalities: {a: 3}\n", "over.yaml:3: recipes.x.modalities.a: should be the name of a modality"),
            ("recipes:\n  x:\n    modalities: {a: [\n", "over.yaml:4: is not YAML"),
        ],
    )  # fmt: skip
    def test_faults_name_file_line_and_place(self, overlaid: Overlaid, text: str, sentence: str) -> None:
        with pytest.raises(TransfuseError) as caught:
            overlaid(text)
        assert sentence in str(caught.value)

    def test_headings_may_be_empty(self, overlaid: Overlaid) -> None:
        assert overlaid("modalities:\nmasks:\nrecipes:\nplugins:\n").names("recipes") == [
            "chameleon",
            "transfusion",
        ]
        assert overlaid("").names("masks") == ["bidirectional", "causal"]

    def test_several_faults_are_said_at_once(self, overlaid: Overlaid) -> None:
        with pytest.raises(TransfuseError) as caught:
            overlaid("masks:\n  x: 3\nrecipes:\n  y: 4\n")
        assert len(str(caught.value).splitlines()) == 2


class TestNames:
    def test_what_is_there(self, registry: Registry) -> None:
        assert registry.names("modalities") == ["image", "image_vq", "text"]
        assert registry.modality("image_vq").name == "vq"
        assert registry.faults() == []

    def test_unknown_names_get_hints(self, registry: Registry) -> None:
        with pytest.raises(TransfuseError, match=r"^unknown modality 'imag', did you mean 'image'\?$"):
            registry.modality("imag")
        with pytest.raises(TransfuseError, match=r"^unknown mask 'causl', did you mean 'causal'\?$"):
            registry.mask("causl")

    def test_the_packaged_registry_resolves_with_the_packages_own_plugins(self) -> None:
        own = Plugins.load(only=["text", "image", "diffusion", "vq", "adapters", "lab"])
        assert Registry.load(own, [packaged_file()]).faults() == []


class TestPluginEntries:
    def test_a_plugin_brings_a_recipe(
        self, make_module: Make, part: MakePart, small: Path, tmp_path: Path
    ) -> None:
        entries = {
            "modalities": {"steps": {"kind": "actions"}},
            "masks": {"chunks": "same(doc) & delta(frame, hi=1)"},
            "recipes": {"pi": {"modalities": {"action": "steps"}, "mask": "chunks", "loss": {"action": 1}}},
        }
        plugins = Plugins.of({"robot": make_module(part("modality", "actions"), registry=entries)})
        registry = Registry.load(plugins, [small])
        recipe = registry.recipe("pi", ["train.steps=1"])
        assert str(recipe.mask) == "same(doc) & delta(frame, hi=1)"
        with pytest.raises(TransfuseError, match=r"^plugin 'robot': recipes.pi.train: takes exactly one"):
            registry.recipe("pi")
        over = tmp_path / "over.yaml"
        over.write_text("recipes: {pi: {mask: full, train: {steps: 3}}}")
        users = Registry.load(plugins, [small, over]).recipe("pi")
        assert (users.train.steps, str(users.mask)) == (3, "full")

    def test_what_a_plugin_says_of_a_users_modality_is_the_plugins(
        self, make_module: Make, plugins: Plugins, small: Path
    ) -> None:
        bad = {"extends": "transfusion", "modalities": {"image": {"codec": {"chanels": 1}}}}
        robot = Plugins.of({"robot": make_module(registry={"recipes": {"bad": bad}})})
        registry = Registry.load(Plugins([*plugins.loaded, *robot.loaded]), [small])
        with pytest.raises(
            TransfuseError, match=r"^plugin 'robot': recipes.bad.modalities.image.codec.chanels: "
        ):
            registry.recipe("bad")

    @pytest.mark.parametrize(
        ("entries", "sentence"),
        [
            ({"masks": {"x": "sam(doc)"}}, r"^plugin 'robot': masks.x: "),
            (
                {"recipes": {"x": {"lss": 3}}},
                r"^plugin 'robot': recipes.x.lss: unknown key, did you mean 'loss'\?",
            ),
            (
                {"masks": {"causal": "full"}},
                r"^plugin 'robot' brings masks.causal, which transfuse has already\.",
            ),
            (
                {"masks": {"taken": "full"}},
                r"^plugin 'robot' brings masks.taken, which plugin 'first' has already\.",
            ),
        ],
    )
    def test_wrong_or_taken_entries_are_left_out(
        self, make_module: Make, entries: dict[str, object], sentence: str
    ) -> None:
        plugins = Plugins.of(
            {
                "first": make_module(registry={"masks": {"taken": "none"}}),
                "robot": make_module(registry={**entries, "modalities": {"mine": {"kind": "x"}}}),
            }
        )
        with pytest.warns(PluginWarning, match=sentence):
            registry = Registry.load(plugins, [packaged_file()])
        assert str(registry.mask("causal")) == "same(doc) & le(idx)"
        assert str(registry.mask("taken")) == "none"
        assert "mine" not in registry.names("modalities")
