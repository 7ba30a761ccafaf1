"""A model built without memory is drawn weight by weight as it is drawn whole, and never is whole."""

import pytest
import torch
from torch import nn
from transfuse.errors import TransfuseError
from transfuse.training.deferred import built, recorded

from tests.tiny.models import Kit


@pytest.mark.parametrize("block", ["llama", {"name": "per-modality", "start": "copied"}])
@pytest.mark.parametrize("patcher", ["linear", "unet"])
def test_the_same_weights(kit: Kit, block: object, patcher: str) -> None:
    def build() -> nn.Module:
        modalities = {"text": kit.modality("text"), "image": kit.modality("image", patcher={"name": patcher})}
        return kit.model(modalities=modalities, seed=3, block=block)

    whole = build()
    modalities = {"text": kit.modality("text"), "image": kit.modality("image", patcher={"name": patcher})}
    model, recording = built(lambda: kit.model(modalities=modalities, seed=3, block=block))
    assert recording is not None
    wanted = {n: t for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta}
    drawn: dict[str, torch.Tensor] = {}
    recording.draw(wanted, lambda name, tensor: drawn.update({name: tensor.clone()}))
    own = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    assert wanted.keys() == drawn.keys() <= own.keys()
    assert any(name.startswith("backbone") for name in drawn)
    for name, tensor in drawn.items():
        assert torch.equal(tensor, own[name]), name


class Deep(nn.Module):
    """Layers whose first draw is written over when all of them are there, as a backbone's is."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(layers))
        for layer in self.layers:
            nn.init.trunc_normal_(layer.weight, std=0.1)
        self.layers[0].weight.data.mul_(2)


def test_no_more_than_a_layer_or_two_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]), recorded() as recording:
        torch.manual_seed(1)
        model = Deep(40)
    held, most, real = 0, 0, torch.empty

    def empty(*sizes: int, **options: object) -> torch.Tensor:
        nonlocal held, most
        made = real(*sizes, **options)
        if options.get("dtype") == torch.uint8:
            held += made.nbytes
            most = max(most, held)
            import weakref

            weakref.finalize(made, lambda size: release(size), made.nbytes)
        return made

    def release(size: int) -> None:
        nonlocal held
        held -= size

    monkeypatch.setattr(torch, "empty", empty)
    found: dict[str, float] = {}
    recording.draw(
        dict(model.named_parameters()), lambda name, tensor: found.update({name: float(tensor.sum())})
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        whole = Deep(40)
    assert found == {name: float(p.detach().sum()) for name, p in whole.named_parameters()}
    assert most < 4 * 64 * 65 * 4, "of 40 layers"


def test_what_asks_for_numbers_is_built_in_memory(kit: Kit) -> None:
    def build() -> nn.Module:
        model = kit.model("text")
        float(model.tokens.weight.sum())
        return model

    model, recording = built(build)
    assert recording is None
    assert not any(p.is_meta for p in model.parameters())


def test_what_nothing_was_written_into() -> None:
    with recorded() as recording:
        pass
    with pytest.raises(TransfuseError, match="nothing was written into 'w'"):
        recording.draw({"w": torch.empty(2, device="meta")}, lambda name, tensor: None)
