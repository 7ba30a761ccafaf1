"""The plugin loader: every fault has its sentence, and none of them takes the healthy plugins down."""

import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from transfuse.config.parts import Part
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.hooks import HOOKS, hookimpl
from transfuse.registry.plugin_contents import PluginError, PluginIdentity, read
from transfuse.registry.plugins import Plugins, PluginWarning

Install = Callable[..., None]
Source = Callable[[str], str]
Make = Callable[..., types.SimpleNamespace]
MakePart = Callable[[str, str], tuple[str, Part]]

CURE = "Fix it, uninstall it, or list it under plugins.disabled"


def refusal(module: object) -> str:
    with pytest.raises(PluginError) as caught:
        Plugins.of({"bad": module})
    return str(caught.value)


def offering(hook: str, answer: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(**{hook: hookimpl(lambda: answer)})


class TestFaultsOfOnePlugin:
    def test_hook_name_misspelt(self) -> None:
        assert refusal(offering("transfuse_codec", [])) == (
            "plugin 'bad' implements no such hook as 'transfuse_codec',"
            f" did you mean 'transfuse_codecs'? {CURE}"
        )

    def test_marker_forgotten(self) -> None:
        module = types.SimpleNamespace(transfuse_codecs=list)
        assert refusal(module) == f"plugin 'bad' has transfuse_codecs without the marker @hookimpl. {CURE}"

    def test_marker_forgotten_beside_a_marked_hook(self) -> None:
        module = offering("transfuse_codecs", [])
        module.transfuse_metrics = list
        assert "has transfuse_metrics without the marker" in refusal(module)

    def test_no_hook_at_all(self) -> None:
        sentence = refusal(types.SimpleNamespace(other=3))
        assert sentence == f"plugin 'bad' implements no hook; the hooks are {', '.join(HOOKS)}. {CURE}"

    def test_extra_argument(self) -> None:
        sentence = refusal(types.SimpleNamespace(transfuse_codecs=hookimpl(lambda config: [])))
        assert sentence.startswith("plugin 'bad' is refused: Plugin 'bad' for hook 'transfuse_codecs'")
        assert "config" in sentence

    @pytest.mark.parametrize("answer", [42, "kl", {"kl": 1}, None])
    def test_not_a_list(self, answer: object) -> None:
        sentence = refusal(offering("transfuse_codecs", answer))
        assert (
            sentence == f"plugin 'bad' returned {answer!r} from transfuse_codecs, not a list of Part. {CURE}"
        )

    def test_not_a_part(self) -> None:
        sentence = refusal(offering("transfuse_modalities", [42]))
        assert sentence == f"plugin 'bad' returned 42 from transfuse_modalities, not a Part. {CURE}"

    def test_one_part_twice(self, make_module: Make, part: MakePart) -> None:
        sentence = refusal(make_module(part("codec", "kl"), part("codec", "kl")))
        assert "provides the codec 'kl' twice" in sentence

    @pytest.mark.parametrize(
        ("answer", "sentence"),
        [
            (42, "returned 42 from transfuse_registry, not a dict"),
            ({"mask": {}}, "returned an unknown key 'mask' from transfuse_registry, did you mean 'masks'?"),
            (
                {"masks": ["causal"]},
                "returned ['causal'] as masks from transfuse_registry, not a dict by name",
            ),
            ({"masks": {3: "full"}}, "as masks from transfuse_registry, not a dict by name"),
        ],
    )
    def test_registry_entries_of_another_form(self, answer: object, sentence: str) -> None:
        assert sentence in refusal(offering("transfuse_registry", answer))

    def test_what_a_hook_raises_gets_a_note(self) -> None:
        def broken() -> list[Part]:
            raise ZeroDivisionError("by nothing")

        with pytest.raises(ZeroDivisionError) as caught:
            Plugins.of({"bad": types.SimpleNamespace(transfuse_codecs=hookimpl(broken))})
        assert caught.value.__notes__ == ["raised by plugin 'bad' in the hook transfuse_codecs"]

    def test_a_mistaken_part_names_the_plugin(self) -> None:
        def mistaken() -> list[Part]:
            return [Part("kl", dict, print)]  # type: ignore[arg-type]

        sentence = refusal(types.SimpleNamespace(transfuse_codecs=hookimpl(mistaken)))
        assert sentence.startswith(
            "plugin 'bad' fails in transfuse_codecs: part 'kl': settings must subclass"
        )


class TestSeveralPlugins:
    def test_order_means_nothing(self, make_module: Make, part: MakePart) -> None:
        a, b = make_module(part("codec", "b")), make_module(part("codec", "a"))
        one, other = Plugins.of({"x": a, "y": b}), Plugins.of({"y": b, "x": a})
        assert list(one.parts("codec")) == list(other.parts("codec")) == ["a", "b"]
        assert one.listing() == other.listing()

    def test_order_means_nothing_for_errors_either(self, make_module: Make, part: MakePart) -> None:
        contents = [
            read(make_module(part("codec", "kl"), registry={"masks": {"m": text}}), PluginIdentity(name))
            for name, text in (("x", "full"), ("y", "none"))
        ]
        one, other = Plugins(contents), Plugins(reversed(contents))
        assert one.clashes == other.clashes
        assert list(one.clashes) == [("codec", "kl")]
        with pytest.warns(PluginWarning, match=r"^plugin 'y' brings masks.m, which plugin 'x' has already"):
            assert str(Registry.load(other, []).mask("m")) == "full"

    def test_one_part_from_two_plugins(self, make_module: Make, part: MakePart) -> None:
        with pytest.raises(TransfuseError) as caught:
            Plugins.of({"x": make_module(part("codec", "kl")), "y": make_module(part("codec", "kl"))})
        assert str(caught.value) == (
            "plugin 'x' and plugin 'y' both provide the codec 'kl'. List one of them under plugins.disabled"
        )

    def test_one_name_for_two_kinds_is_fine(self, make_module: Make, part: MakePart) -> None:
        plugins = Plugins.of({"x": make_module(part("codec", "kl")), "y": make_module(part("sampler", "kl"))})
        assert plugins.choose("codec", "kl").kind == "codec"
        assert plugins.choose("sampler", "kl").kind == "sampler"

    def test_an_unknown_part_gets_a_hint(self, make_module: Make, part: MakePart) -> None:
        plugins = Plugins.of({"x": make_module(part("dataset", "digits"))})
        with pytest.raises(TransfuseError, match=r"^unknown data set 'digit', did you mean 'digits'\?$"):
            plugins.part("dataset", "digit")


class TestInstalled:
    def test_a_distribution_is_found(self, install: Install, healthy: Source) -> None:
        install("tf-video", "0.1", video=healthy("frames"))
        plugins = Plugins.load(only=["video"])
        assert plugins.part("codec", "frames").name == "frames"
        row = next(row for row in plugins.listing() if row.plugin.name == "video")
        assert (row.plugin.distribution, row.plugin.version, row.status, row.provides) == (
            "tf-video",
            "0.1",
            "loaded",
            ("codec frames",),
        )

    def test_a_broken_one_is_left_out_and_named(self, install: Install, healthy: Source) -> None:
        install("tf-video", "0.1", video="import nowhere_at_all")
        install("tf-sound", "2", sound=healthy("mel"))
        sentence = (
            "plugin 'video' (from tf-video 0.1) does not import: "
            f"ModuleNotFoundError: No module named 'nowhere_at_all'. {CURE}"
        )
        with pytest.warns(PluginWarning) as warned:
            plugins = Plugins.load(only=["video", "sound"])
        assert [str(warning.message) for warning in warned] == [sentence]
        assert plugins.part("codec", "mel").name == "mel"
        with pytest.raises(TransfuseError) as caught:
            plugins.part("codec", "frames")
        assert str(caught.value).startswith(f"unknown codec 'frames', known: mel\n  left out: {sentence}")
        row = next(row for row in plugins.listing() if row.plugin.name == "video")
        assert row.status == "broken"
        assert row.reason.startswith("does not import: ModuleNotFoundError")

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("raise SystemExit(3)", "does not import: SystemExit: 3"),
            ("def (", "does not import: SyntaxError"),
            ("x = 1", "implements no hook"),
            (
                "from transfuse.registry.hooks import hookimpl\n@hookimpl\ndef transfuse_codecs():\n    1 / 0\n",
                "fails: ZeroDivisionError: division by zero; raised by plugin 'video' (from tf-video 0.1)"
                " in the hook transfuse_codecs",
            ),
        ],
    )
    def test_whatever_is_broken(self, install: Install, healthy: Source, source: str, reason: str) -> None:
        install("tf-video", "0.1", video=source)
        install("tf-sound", "2", sound=healthy("mel"))
        with pytest.warns(PluginWarning):
            plugins = Plugins.load(only=["video", "sound"])
        assert [error.reason.startswith(reason) for error in plugins.broken] == [True]
        assert plugins.part("codec", "mel")

    def test_two_distributions_with_one_plugin_name(self, install: Install, healthy: Source) -> None:
        install("tf-video", "0.1", video=healthy("frames"))
        install("other-video", "7", video=healthy("films"))
        with pytest.warns(PluginWarning, match="share one name, so neither is loaded"):
            plugins = Plugins.load(only=["video"])
        assert plugins.parts("codec") == {}
        assert {"tf-video 0.1", "other-video 7"} <= set(
            str(plugins.broken[0]).replace("(", ")").replace("from ", "").split(")")
        )

    def test_two_plugins_with_one_part(self, install: Install, healthy: Source) -> None:
        install("tf-video", "0.1", video=healthy("frames"))
        install("other-video", "7", film=healthy("frames"))
        install("tf-sound", "2", sound=healthy("mel"))
        with pytest.warns(PluginWarning, match="both provide the codec 'frames'"):
            plugins = Plugins.load(only=["video", "film", "sound"])
        assert list(plugins.parts("codec")) == ["mel"]
        with pytest.raises(
            TransfuseError, match=r"\(from other-video 7\) and .* \(from tf-video 0.1\) both provide"
        ):
            plugins.part("codec", "frames")

    def test_a_disabled_plugin_is_not_even_imported(self, install: Install) -> None:
        install("tf-video", "0.1", video="raise RuntimeError('imported')")
        installed = {row.plugin.name for row in Plugins([]).listing()} | {"video"}
        plugins = Plugins.load(only=installed, disabled=["video"])
        assert plugins.broken == ()
        row = next(row for row in plugins.listing() if row.plugin.name == "video")
        assert (row.status, row.reason) == ("disabled", "listed under plugins.disabled")
        with pytest.raises(TransfuseError, match=r"\n  disabled: .*video"):
            plugins.part("codec", "frames")

    def test_the_environment_restricts(
        self, install: Install, healthy: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install("tf-video", "0.1", video="raise RuntimeError('imported')")
        install("tf-sound", "2", sound=healthy("mel"))
        monkeypatch.setenv("TRANSFUSE_PLUGINS", "sound, ")
        plugins = Plugins.load()
        assert [row.plugin.name for row in plugins.listing() if row.status == "loaded"] == ["sound"]
        row = next(row for row in plugins.listing() if row.plugin.name == "video")
        assert (row.status, row.reason) == ("disabled", "not in TRANSFUSE_PLUGINS")
        monkeypatch.setenv("TRANSFUSE_PLUGINS", "soundd")
        with pytest.raises(
            TransfuseError,
            match=r"TRANSFUSE_PLUGINS: no plugin 'soundd' is installed, did you mean 'sound'\?",
        ):
            Plugins.load()

    def test_disabling_what_is_not_there_is_said(self, install: Install, healthy: Source) -> None:
        install("tf-video", "0.1", video=healthy("frames"))
        with pytest.warns(
            PluginWarning, match=r"plugins.disabled: no plugin 'vidoe' .* did you mean 'video'\?"
        ):
            Plugins.load(disabled=["vidoe"], only=["video"])

    def test_the_packages_own_plugins_load_without_a_word(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plugins = Plugins.load(only=["text", "image", "diffusion", "vq", "adapters", "lab"])
        assert plugins.broken == ()
        assert plugins.clashes == {}
