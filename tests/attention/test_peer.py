"""bench/peer.py compares like with like: the plain model computes our loss, every runner runs. No times here."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from transfuse.sequences.rows import join

BENCH = Path(__file__).parents[2] / "bench"
TINY = {"dim": 32, "layers": 2, "heads": 2}


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The command and the modules of its runners."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    try:
        import peer as command  # type: ignore[import-not-found]
        from runners import measure, ours, page, peer, plain, workloads  # type: ignore[import-not-found]

        yield SimpleNamespace(
            command=command,
            measure=measure,
            ours=ours,
            page=page,
            peer=peer,
            plain=plain,
            workloads=workloads,
        )
    finally:
        sys.path.remove(str(BENCH))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("peer", "pages", "runners"):
                del sys.modules[name]


def drawn(batch) -> tuple[Tensor, Tensor]:
    """The times of a row's spans and their flow's velocities ``[N, 4]``, in the row's order."""
    spans = [
        (int(index[0]), t, target.flatten(1).T)
        for group in batch.groups
        for index, t, target in zip(group.index, group.t, group.target, strict=True)
    ]
    spans.sort(key=lambda span: span[0])
    return torch.stack([t for _, t, _ in spans]), torch.cat([target for _, _, target in spans])


@pytest.mark.parametrize("name", ["digits_many", "ragged", "image_only"])
def test_the_plain_model_has_our_loss_and_gradients(bench: SimpleNamespace, name: str) -> None:
    ours = bench.ours.Ours(bench.workloads.WORKLOADS[name], core=TINY)
    documents = [ours.workload.document("train", i) for i in range(4)]
    batch = ours.trainer.batch(join([ours.model.layout.sequence(document) for document in documents]))
    plain = bench.plain.from_ours(ours.model)
    ours.model.predictable[:] = True  # the plain model has a logit for the end of a picture too

    combined = ours.trainer.combiner.combine(ours.model.losses(batch), batch.counts)
    padded = bench.plain.padded(documents, ours.model)
    t, velocity = drawn(batch)
    loss = plain(padded, t, velocity + padded.latents, ours.trainer.recipe.loss["image"])
    torch.testing.assert_close(loss, combined.total, rtol=1e-5, atol=0)

    combined.total.backward()
    loss.backward()
    own = ours.model.backbone.blocks[0].attention.qkv.weight.grad
    torch.testing.assert_close(plain.blocks[0].attention.qkv.weight.grad, own, rtol=1e-3, atol=1e-6)


def test_what_stands_in_a_batch_beside_a_document_does_not_change_its_loss(bench: SimpleNamespace) -> None:
    ours = bench.ours.Ours(bench.workloads.WORKLOADS["ragged"], core=TINY)
    plain = bench.plain.from_ours(ours.model)
    short, long = sorted(
        (ours.workload.document("train", i) for i in range(2)), key=bench.workloads.data_positions
    )
    found = []
    for documents in ([short], [short, long]):
        batch = bench.plain.padded(documents, ours.model)
        last = batch.targets.clone()
        last[1:] = -1  # scored on the first document alone
        batch = bench.plain.Padded(**{**vars(batch), "targets": last})
        found.append(plain(batch, torch.full((len(documents),), 0.5), torch.zeros_like(batch.latents), 0.0))
    torch.testing.assert_close(*found)


def test_workloads_are_as_described(bench: SimpleNamespace) -> None:
    w = bench.workloads
    of = {name: [one.document("train", i) for i in range(200)] for name, one in w.WORKLOADS.items()}
    assert {len(d.items[0].data) for d in of["equal"]} == {60}
    assert {w.data_positions(d) for d in of["equal"]} == {124}
    assert {len(d.items) for d in of["digits_many"]} == {2, 4, 6, 8}
    assert all(d.items[1].data.shape == (4, 1, 16) for d in of["digits"])
    lengths = [(len(d.items[0].data), d.items[1].data.shape[2]) for d in of["ragged"]]
    assert min(min(pair) for pair in lengths) >= 4
    assert max(text for text, _ in lengths) <= 200
    assert 200 < max(image for _, image in lengths) <= 256
    assert not w.WORKLOADS["image_only"].has_text
    digit = of["digits"][0].items[1].data[:, 0]  # a column is a square of 2×2 of the picture
    whole = w._digits().document("train", 0).items[1].data[0]
    assert np.array_equal(digit[:, 5].reshape(2, 2), whole[2:4, 2:4])


def test_our_row_and_everyones_group_hold_the_same_documents(bench: SimpleNamespace) -> None:
    ours = bench.ours.Ours(bench.workloads.WORKLOADS["ragged"], core=TINY)
    for row, documents in zip((next(ours.trainer.rows) for _ in range(3)), ours.groups(), strict=False):
        assert list(row.sources) == [document.source for document in documents]


def test_a_round_counts_units_and_time(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def step(seconds: float) -> int:
        clock[0] += seconds
        return 10

    monkeypatch.setattr(bench.measure.time, "process_time", lambda: clock[0])
    found = bench.measure.alternate({"a": lambda: step(0.5), "b": lambda: step(2)}, rounds=3, least=1)
    assert {name: (rate.median, rate.spread) for name, rate in found.items()} == {"a": (20, 0), "b": (5, 0)}
    assert bench.measure.Rate.of([9, 10, 11]) == bench.measure.Rate(10, 0.2)


def test_kept_storages_count_once_and_parameters_not(bench: SimpleNamespace) -> None:
    layer = torch.nn.Linear(8, 8, bias=False)
    x = torch.ones(4, 8)

    def loss() -> tuple[Tensor, int]:
        y = layer(x)  # keeps x and its weight
        return (y.sigmoid() * y.view(-1).view(4, 8)).sum(), 4  # keeps the sigmoid, y once

    assert bench.measure.kept_bytes(layer, loss) == (3 * 4 * 8 * 4, 4)


def test_shares_of_a_step_add_up(bench: SimpleNamespace) -> None:
    a = torch.randn(300, 300)

    def step() -> int:
        (a @ a).exp()
        torch.nn.functional.scaled_dot_product_attention(a[None, None], a[None, None], a[None, None])
        return 1

    shares = bench.measure.breakdown(step)
    assert sum(shares.values()) == pytest.approx(1)
    assert {"matmul", "attention", "exp", "python"} <= shares.keys()


def test_the_command_writes_a_file_and_the_page(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TINY.items():
        monkeypatch.setitem(bench.ours.CORE, name, value)
    monkeypatch.setattr(bench.command, "PLAIN", {"compiled": False})
    monkeypatch.setattr(bench.command, "LEAST", 0.0)
    monkeypatch.setattr(bench.measure, "pin", lambda: 0)
    file = tmp_path / "peer.json"
    run(bench, file, "--only", "digits", "--only", "text_1", "--dtype", "fp32", "--rounds", "1")
    figures = json.loads(file.read_text())
    cell = figures["digits"]["fp32"]
    assert {"ours", "plain", "over_plain", "flops_over_peak", "kept_kib", "outside"} <= cell.keys()
    assert cell["over_plain"] == cell["ours"] / cell["plain"]
    run(bench, file, "--only", "equal", "--dtype", "fp32", "--rounds", "1")
    assert json.loads(file.read_text()).keys() == {"digits", "text_1", "equal", "about"}

    text = bench.page.page(json.loads(file.read_text()))
    assert "| digits, fp32 |" in text
    assert "text, 1 together, fp32: a byte of text" in text
    assert "**missed**" in text
    pages = sys.modules["pages"]
    assert (
        pages.written("a\n<!-- x -->\nold\n<!-- end -->b", "x", "new") == "a\n<!-- x -->\nnew\n<!-- end -->b"
    )


def run(bench: SimpleNamespace, file: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["peer.py", "--json", str(file), "--without", "peer", *arguments])
        bench.command.main()


def test_ratios_are_over_the_peer_in_fp32(bench: SimpleNamespace) -> None:
    cell = {"ours": 60.0, "peer": 5.0, "peer_fp32": 10.0, "plain": 30.0}
    assert bench.command._ratios(cell) == {"ratio": 6.0, "over_plain": 2.0}
    assert bench.command._ratios({"ours": 60.0, "peer": 5.0}) == {"ratio": 12.0}
    assert bench.command._ratios({"peer": 5.0}) == {}


def test_without_the_peer_it_says_how_to_install(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(bench.peer, "installed", lambda: False)
    monkeypatch.setattr(sys, "argv", ["peer.py", "--json", str(tmp_path / "peer.json")])
    with pytest.raises(SystemExit):
        bench.command.main()
    assert "pip install 'transfusion-pytorch==0.20.*'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits_many", "image_only"])
def test_the_peer_trains_and_generates(bench: SimpleNamespace, name: str) -> None:
    pytest.importorskip("transfusion_pytorch", reason="transfusion-pytorch is not installed (extra: peer)")
    ours = bench.ours.Ours(bench.workloads.WORKLOADS[name], core=TINY)
    peer = bench.peer.Peer(ours, core=TINY, modality_processing="flat")
    assert peer.step() == ours.step()
    if ours.workload.has_text:
        prompts = ["zero", "nine"]
        assert peer.pictures(prompts) == ours.pictures(prompts) == 2
        assert peer.text(prompts) == ours.text(prompts) == 2 * bench.ours.TOKENS
        assert peer.documents(prompts) == 2 * bench.ours.TOKENS
