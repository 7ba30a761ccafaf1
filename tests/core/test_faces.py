"""The two faces: every name is there, and none costs anything before it is used."""

import subprocess
import sys

import pytest
import transfuse
import transfuse.plugin

LIGHT = ("transfuse", "transfuse.plugin", "transfuse.masks", "transfuse.registry", "transfuse.config.recipe")


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("face", [transfuse, transfuse.plugin], ids=lambda face: face.__name__)
def test_every_name_of_a_face_is_there_and_is_listed(face: object) -> None:
    names = face.__all__
    assert len(names) == len(set(names))
    assert set(names) - {"__version__"} == set(dir(face))
    for name in names:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = face.nothing_of_the_kind


def test_the_first_face_offers_the_names_that_people_use() -> None:
    assert set(transfuse.__all__) == {
        "Document", "Item", "DataSet", "Registry", "build", "Model", "Packer", "collate", "Trainer", "generate",
        "load", "masks", "attend", "TransfuseError", "__version__",
    }  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_imports_no_torch(module: str) -> None:
    assert in_a_new_process(f"import sys, {module}; print('torch' in sys.modules)") == "False\n"


def test_importing_transfuse_imports_none_of_its_rooms() -> None:
    code = "import sys, transfuse; print([m for m in sys.modules if m.startswith('transfuse.')])"
    assert in_a_new_process(code) == "[]\n"


def test_a_plugin_is_described_without_torch() -> None:
    code = (
        "import sys; from transfuse.plugin import Part, PartOf, Settings, TransfuseError, hookimpl; "
        "print('torch' in sys.modules)"
    )
    assert in_a_new_process(code) == "False\n"
