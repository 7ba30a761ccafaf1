"""`help()` on an interface shows what a plugin implements, and not all of torch's modules."""

import pydoc

import pytest
from torch import nn
from transfuse.plugin import Backbone, Codec, Modality, SpanModality, TokenModality
from transfuse.testing.modalities import Blob

TORCHS = ("register_forward_hook", "load_state_dict", "requires_grad_", "named_parameters")


@pytest.mark.parametrize("interface", [Modality, SpanModality, TokenModality, Codec, Backbone, Blob])
def test_help_is_the_interface_and_no_more(interface: type) -> None:
    shown = pydoc.render_doc(interface, renderer=pydoc.plaintext)
    assert len(shown.splitlines()) < 165
    assert not [name for name in TORCHS if name in shown]
    methods = {
        name for base in interface.__mro__ if base.__module__.startswith("transfuse") for name in vars(base)
    }
    assert [
        name for name in methods if name.isidentifier() and name[0] != "_" and f" {name}" not in shown
    ] == []


def test_what_it_takes_over_from_torch_is_shown_where_it_writes_it_anew() -> None:
    assert "train(self, mode: bool = True)" in pydoc.render_doc(Codec, renderer=pydoc.plaintext)


def test_an_object_has_all_names_of_a_module() -> None:
    assert set(dir(nn.Module())) <= set(dir(Blob()))
    assert {"sizes", "embed"} <= set(dir(Blob()))
