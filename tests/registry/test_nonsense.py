"""Whatever is given for a setting, the answer is a sentence with the setting's place, in the words of files."""

import importlib
import math
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from transfuse.config.parts import Settings
from transfuse.config.validation import InvalidSettings, validate
from transfuse.errors import TransfuseError
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins

ROOMS = ("transfuse", "transfuse_text", "transfuse_image", "transfuse_diffusion", "transfuse_vq",
         "transfuse_llama", "transfuse_tiles", "transfuse_adapters", "transfuse_lab")  # fmt: skip
NONSENSE: list[Any] = [
    math.nan, math.inf, -math.inf, True, -1, 10**40, "", "x" * 5000, "\x1b[2J", None, [], [[1]], [[[]]],
    {}, {"a": math.nan}, {"a": {"b": math.nan}}, {"a": {"b": {"c": 1}}}, {"name": "nope"}, {"name": 3},
    {"kind": []}, {"text": [1]}, {"text": True}, {"-": 1}, {"": 1}, {"x" * 300: 1}, [True, "a"], [math.nan],
]  # fmt: skip
INTERNAL = re.compile(
    r"function-|constrained|0x[0-9a-f]{6}|lambda|[a-z]\[[a-z]|\btuple\b|validation|pydantic|<\w+ "
)


def every_settings(of: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for found in of.__subclasses__():
        if found.__module__.split(".")[0] in ROOMS:
            yield found
        yield from every_settings(found)


@pytest.fixture(scope="module")
def classes() -> list[type[Settings]]:
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            importlib.import_module(module.name)
    return sorted(set(every_settings()), key=lambda found: found.__qualname__)


def test_every_field_of_all_settings(classes: list[type[Settings]], installed: Plugins) -> None:
    assert len(classes) > 30
    for settings in classes:
        for name in settings.model_fields:
            for value in NONSENSE:
                try:
                    validate(settings, {name: value}, installed)
                except InvalidSettings as invalid:
                    for loc, sentence in invalid.faults:
                        assert all(isinstance(step, int) or not INTERNAL.search(step) for step in loc), loc
                        assert not INTERNAL.search(sentence.partition(", not ")[0]), sentence


@pytest.mark.parametrize(
    ("setting", "faults"),
    [
        ("{image: .nan}", ["image: input should be a finite number, not nan"]),
        ("{image: {codec: .nan}}", ["image.codec: input should be a finite number, not nan"]),
        ("{image: big}", ["image: should be a number or a mapping, not 'big'"]),
        ("{image: true}", ["image: should be a number or a mapping, not true"]),
        ("{image: [1]}", ["image: should be a number or a mapping, not [1]"]),
        ("{image: {codec: [1]}}", ["image.codec: should be a number, not [1]"]),
        ("{image: -1}", ["image: input should be greater than or equal to 0, not -1"]),
        ("{image: {a: x, b: 1, c: .inf}, text: no}", [
            "image.a: should be a number, not 'x'", "image.c: input should be a finite number, not inf",
            "text: should be a number or a mapping, not 'no'"]),
        ("{float: no}", ["float: should be a number or a mapping, not 'no'"]),
    ],
)  # fmt: skip
def test_a_number_or_a_mapping(installed: Plugins, setting: str, faults: list[str]) -> None:
    registry = Registry.load(installed, [packaged_file()])
    with pytest.raises(TransfuseError) as caught:
        registry.recipe("transfusion", [f"train.lr_scale={setting}"])
    assert sorted(str(caught.value).splitlines()) == [f"--set train.lr_scale.{fault}" for fault in faults]
