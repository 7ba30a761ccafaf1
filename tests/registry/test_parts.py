"""Parts, what may be said about them, and the sentences for what may not."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field
from transfuse.config.parts import Chosen, Part, PartOf, Settings, choose
from transfuse.config.validation import validate
from transfuse.errors import TransfuseError
from transfuse.registry.plugins import Plugins

PLACE = "modalities.image"


def test_a_section_chooses_a_part_and_dumps_back(plugins: Plugins) -> None:
    chosen = plugins.choose("modality", {"kind": "image", "codec": {"name": "kl", "channels": 2}}, PLACE)
    assert chosen.name == "image"
    assert chosen.kind == "modality"
    assert chosen.settings.codec.settings.channels == 2
    dump = chosen.dump()
    assert dump["codec"] == {"name": "kl", "channels": 2}
    assert dump["kind"] == "image"
    assert dump["sampler"] is None
    assert plugins.choose("modality", json.loads(json.dumps(dump))) == chosen


def test_a_bare_name_is_short_for_its_section(plugins: Plugins) -> None:
    assert plugins.choose("codec", "kl") == plugins.choose("codec", {"name": "kl"})
    assert plugins.choose("modality", "text") == plugins.choose("modality", {"kind": "text"})
    chosen = plugins.choose("codec", "kl")
    assert plugins.choose("codec", chosen) is chosen


@pytest.mark.parametrize(
    ("section", "patcher"),
    [
        ({}, {"name": "linear", "patch": 2, "bias": False}),
        ({"patcher": {"patch": 8}}, {"name": "linear", "patch": 8, "bias": False}),
        ({"patcher": {"name": "linear", "patch": 8}}, {"name": "linear", "patch": 8, "bias": False}),
        ({"patcher": "linear"}, {"name": "linear", "patch": 2, "bias": False}),
        ({"patcher": "unet"}, {"name": "unet", "depth": 2}),
        ({"patcher": {"name": "unet", "depth": 3}}, {"name": "unet", "depth": 3}),
    ],
)
def test_a_section_without_a_name_changes_the_default(
    plugins: Plugins, section: dict[str, Any], patcher: dict[str, Any]
) -> None:
    assert plugins.choose("modality", {"kind": "image", **section}).dump()["patcher"] == patcher


def test_an_optional_part_may_be_left_out_or_given(plugins: Plugins) -> None:
    assert plugins.choose("modality", {"kind": "image", "sampler": None}).settings.sampler is None
    given = plugins.choose("modality", {"kind": "image", "sampler": "ddim"})
    assert given.settings.sampler.name == "ddim"


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"codec": {"chanels": 4}}, "modalities.image.codec.chanels: unknown key, did you mean 'channels'?"),
        ({"codec": "kll"}, "modalities.image.codec: unknown codec 'kll', did you mean 'kl'?"),
        (
            {"codec": {"channels": 0}},
            "modalities.image.codec.channels: input should be greater than or equal to 1, not 0",
        ),
        ({"codec": {"channels": True}}, "modalities.image.codec.channels: should be an integer, not true"),
        ({"codec": {"name": 3}}, "modalities.image.codec: needs 'name': which codec it is"),
        (
            {"codec": [1]},
            "modalities.image.codec: should be the name of a codec or a section with a 'name', not [1]",
        ),
        ({"sampler": {"evaluations": 3}}, "modalities.image.sampler: needs 'name': which sampler it is"),
        (
            {"patcher": None},
            "modalities.image.patcher: should be the name of a patcher or a section with a 'name', not None",
        ),
        ({"guidance": {"scal": 1}}, "modalities.image.guidance.scal: unknown key, did you mean 'scale'?"),
        ({"guidance": 3}, "modalities.image.guidance: should be a mapping of settings, not 3"),
        (
            {"guidance": {"scale": float("nan")}},
            "modalities.image.guidance.scale: input should be a finite number, not nan",
        ),
        (
            {"guidance": {"scale": float("inf")}},
            "modalities.image.guidance.scale: input should be a finite number, not inf",
        ),
        (
            {"zzz": 1},
            "modalities.image.zzz: unknown key, known: codec, guidance, objective, patcher, sampler",
        ),
    ],
)
def test_every_fault_names_its_place_and_cure(
    plugins: Plugins, section: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TransfuseError) as caught:
        plugins.choose("modality", {"kind": "image", **section}, PLACE)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("section", [None, 3, [], {}, {"name": "image"}, {"kind": None}, {"kind": ["image"]}])
def test_a_section_says_which_part(plugins: Plugins, section: Any) -> None:
    with pytest.raises(TransfuseError, match=r"^modality: (needs|should be)"):
        plugins.choose("modality", section)


def test_all_faults_are_said_at_once(plugins: Plugins) -> None:
    with pytest.raises(TransfuseError) as caught:
        plugins.choose("modality", {"kind": "image", "codec": "k", "guidance": {"scale": "x"}}, PLACE)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "modalities.image.codec",
        "modalities.image.guidance.scale",
    ]


def test_a_part_of_another_kind_is_refused(plugins: Plugins) -> None:
    with pytest.raises(TransfuseError, match="should be a sampler, not the codec 'kl'"):
        plugins.choose("sampler", plugins.choose("codec", "kl"))


def test_settings_without_plugins_take_chosen_parts_only(plugins: Plugins) -> None:
    image = plugins.part("modality", "image").settings
    kl, linear, ddpm = (
        plugins.choose(*pair) for pair in (("codec", "kl"), ("patcher", "linear"), ("objective", "ddpm"))
    )
    assert image(codec=kl, patcher=linear, objective=ddpm).codec is kl  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"use Plugins\.choose"):
        image(codec="kl")  # type: ignore[call-arg]


def test_build_hands_over_what_the_builder_takes() -> None:
    class Plain(Settings):
        pass

    def narrow(settings: Plain, dim: int) -> int:
        return dim

    def wide(settings: Plain, **context: int) -> dict[str, int]:
        return context

    by_narrow, by_wide = (Chosen("patcher", Part("a", Plain, build), Plain()) for build in (narrow, wide))
    assert by_narrow.build(dim=3, shape=(1, 2, 2)) == 3
    assert by_wide.build(dim=3, shape=4) == {"dim": 3, "shape": 4}
    with pytest.raises(
        TransfuseError, match=r"^patcher 'a': building it raised TypeError: .*missing .* 'dim'"
    ):
        by_narrow.build()


class Loud:
    pass


class Louder(Loud):
    def __init__(self, settings: Settings) -> None:
        pass


def quiet(settings: Settings) -> str:
    return "quiet"


def loud(settings: Settings) -> Loud:
    return Loud()


class Speaker(Settings):
    voice: Annotated[Chosen[Loud], PartOf("voice")] = Field(default="loud", validate_default=True)
    echo: Annotated[Chosen[Loud] | None, PartOf("voice")] = None
    other: Annotated[Chosen | None, PartOf("voice")] = None


class Voices:
    """A lookup of one kind of part."""

    found = {  # noqa: RUF012
        part.name: part
        for part in (
            Part("loud", Settings, loud),
            Part("louder", Settings, Louder),
            Part("quiet", Settings, quiet),
            Part("unsaid", Settings, lambda settings: Loud()),
        )
    }

    def part(self, kind: str, name: str) -> Part:
        return self.found[name]

    def parts(self, kind: str) -> dict[str, Part]:
        return self.found


@pytest.mark.parametrize("field", ["voice", "echo"])
def test_a_part_builds_what_its_field_says(field: str) -> None:
    for name in ("loud", "louder", "unsaid"):
        chosen = getattr(validate(Speaker, {field: name}, Voices()), field)
        assert isinstance(chosen.build(), Loud)
    chosen = getattr(validate(Speaker, {field: "quiet"}, Voices()), field)
    with pytest.raises(
        TransfuseError, match=r"^voice 'quiet' builds str, and here must be Loud; use loud or louder$"
    ):
        chosen.build()
    with pytest.raises(TransfuseError, match="must be Loud; use another"):
        replace(chosen, others=()).build()


def test_a_field_that_says_nothing_takes_what_is_built() -> None:
    assert validate(Speaker, {"other": "quiet"}, Voices()).other.build() == "quiet"  # type: ignore[union-attr]


def test_a_part_chosen_elsewhere_must_build_it_too() -> None:
    chosen = choose(Voices(), "voice", "quiet")
    assert chosen.build() == "quiet"
    with pytest.raises(TransfuseError, match="here must be Loud"):
        Speaker(voice=chosen).voice.build()  # type: ignore[arg-type]


class Named(Settings):
    name: str = "x"


class Kinded(Settings):
    kind: str = "x"


class Loose:
    pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("", Settings, print), "a part's name is a word such as 'kl'"),
        ((" a", Settings, print), "a part's name is a word such as 'kl'"),
        ((3, Settings, print), "a part's name is a word such as 'kl'"),
        (("a", Loose, print), "settings must subclass Settings"),
        (("a", Settings(), print), "settings must subclass Settings"),
        (("a", Settings, 3), "build must be callable, not 3"),
        (("a", Named, print), "settings cannot have field 'name'"),
        (("a", Kinded, print), "settings cannot have field 'kind'"),
    ],
)
def test_a_part_that_cannot_work_is_refused_when_made(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(TransfuseError) as caught:
        Part(*arguments)
    assert sentence in str(caught.value)


def test_a_validators_own_sentence_is_kept(make_module: Callable[..., Any]) -> None:
    from pydantic import field_validator

    class Odd(Settings):
        size: int = Field(default=1)

        @field_validator("size")
        @classmethod
        def _odd(cls, size: int) -> int:
            if size % 2 == 0:
                raise ValueError("must be odd")
            return size

    odd = Plugins.of({"odd": make_module(("codec", Part("odd", Odd, print)))})
    with pytest.raises(ValueError, match=r"size: must be odd"):
        choose(odd, "codec", {"name": "odd", "size": 2})


def test_settings_are_frozen(plugins: Plugins) -> None:
    with pytest.raises(ValueError, match="frozen"):
        plugins.choose("codec", "kl").settings.channels = 3
