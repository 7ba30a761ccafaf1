"""A run's record survives its round trip, and a comparison has the form that scripts rely on."""

import base64
import json
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from transfuse import TransfuseError
from transfuse.files import write_checked
from transfuse.metrics import Figure
from transfuse_lab.comparison.compare_json import comparison, write_comparison
from transfuse_lab.comparison.run import LONGEST, slug
from transfuse_lab.runs.records import (
    CurvePoint,
    RunRecord,
    Sample,
    Shown,
    data_uri,
    entry_name,
    load_record,
    save_record,
)


def run(entry: str = "transfusion", seed: int = 0, **change: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "entry": entry,
        "recipe": entry.split(";")[0],
        "seed": seed,
        "metrics": {"generation_accuracy": 0.9, "train_flops": 1e12},
    }
    return RunRecord(**fields | change)


FULL = run(
    curve=(CurvePoint(step=3, flops=1e9, positions=640, losses={"text": 2.5, "image": 1.0}),),
    figures=(Figure(name="generation_accuracy", title="Accuracy", better="higher", form="percent"),),
    faults={"fid": "it has no weights"},
    samples=(
        Sample(
            task="text->image",
            given=(Shown(role="text", text="sept 七"),),
            made=Shown(role="image", drawing=data_uri(b"PNG")),
            truth=Shown(role="image", drawing=data_uri("<svg/>")),
            note="one",
        ),
    ),
    settings={"model": {"dim": 128}, "loss": {"image": 5}},
    facts={"versions": {"torch": "2"}, "seconds": 12.5},
)


def test_a_record_survives_its_round_trip(tmp_path: Path) -> None:
    save_record(tmp_path / "new" / "run.json", FULL)
    assert load_record(tmp_path / "new" / "run.json") == FULL
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["run.json"]


def test_a_diverged_run_survives_its_round_trip(tmp_path: Path) -> None:
    save_record(tmp_path / "run.json", run(metrics={"a": nan, "b": inf}))
    text = (tmp_path / "run.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    metrics = load_record(tmp_path / "run.json").metrics
    assert isnan(metrics["a"])
    assert metrics["b"] == inf


def test_settings_and_facts_are_kept_as_json_has_them() -> None:
    facts = run(facts={"a": (1, np.float32(0.5)), 3: np.arange(2), "p": Path("x"), "n": nan}).facts
    assert facts == {"a": [1, 0.5], "3": [0, 1], "p": "x", "n": None}


def test_a_record_is_frozen_and_refuses_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.seed = 3
    with pytest.raises(ValidationError, match="extra"):
        run(sead=3)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"entry": 3}', "damaged"),
        ("\udcff", "is not UTF-8 text"),
    ],
)
def test_what_is_no_record(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "run.json").write_bytes(body.encode("utf-8", "surrogateescape"))
    with pytest.raises(TransfuseError, match=rf"run\.json(:| is) {message}"):
        load_record(tmp_path / "run.json")


def test_what_is_whole_and_no_record(tmp_path: Path) -> None:
    write_checked(tmp_path / "run.json", {"entry": 3})
    with pytest.raises(TransfuseError, match=r"run\.json: not a run's record: entry"):
        load_record(tmp_path / "run.json")


def test_a_figure_changed_by_hand_is_found(tmp_path: Path) -> None:
    save_record(tmp_path / "run.json", run())
    (tmp_path / "run.json").write_text((tmp_path / "run.json").read_text().replace("0.9", "0.99"))
    with pytest.raises(TransfuseError, match=r"run\.json is damaged \(its checksum is another\): evaluate"):
        load_record(tmp_path / "run.json")


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(TransfuseError, match=r"run\.json is missing: .* holds no record"):
        load_record(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        ({}, "transfusion"),
        ({"loss.image": 5}, "transfusion;loss.image=5"),
        ({"mask": "causal", "image.patch": 2}, "transfusion;image.patch=2;mask=causal"),
    ],
)
def test_the_name_of_an_entry(axes: dict[str, Any], name: str) -> None:
    assert entry_name("transfusion", axes) == name


def test_long_entries_that_are_unlike_have_unlike_files() -> None:
    long = "chameleon;group=tune;image.guidance.scale=1.5;image.temperature=0.85;loss.image=5;size="
    names = [slug(f"{long}{size}", seed) for size in ("64x4", "128x4") for seed in (0, 1)]
    assert len(set(names)) == 4
    assert max(map(len, names)) <= LONGEST + len("-seed0")
    assert slug("transfusion;size=64x4", 3) == "transfusion-size=64x4-seed3"


def test_a_drawing_is_a_data_uri_of_what_it_is() -> None:
    for drawing, kind in ((b"\x89PNG", "png"), ("<svg>七</svg>", "svg+xml")):
        head, body = data_uri(drawing).split(",")
        assert head == f"data:image/{kind};base64"
        raw = base64.b64decode(body)
        assert drawing in (raw, raw.decode("utf-8", "ignore"))


def runs(entry: str, *values: float) -> list[RunRecord]:
    return [
        run(entry, seed, metrics={"generation_accuracy": value}, facts={"seconds": seed})
        for seed, value in reversed(list(enumerate(values)))
    ]


def test_the_form_of_compare_json(tmp_path: Path) -> None:
    records = [*runs("transfusion", 0.9, 0.8, 1.0), *runs("chameleon;loss.image=1", 0.7, 0.7, 0.7)]
    write_comparison(tmp_path / "compare.json", records, {"name": "digits"}, "transfuse compare")
    found = json.loads((tmp_path / "compare.json").read_text())
    figure = found["recipes"]["transfusion"]["generation_accuracy"]
    assert set(figure) == {"mean", "low", "high", "values"}
    assert figure["values"] == [0.9, 0.8, 1.0]
    assert figure["mean"] == pytest.approx(0.9)
    assert figure["high"] - figure["mean"] == pytest.approx(4.302652729911275 * 0.1 / 3**0.5)
    other = found["recipes"]["chameleon;loss.image=1"]["generation_accuracy"]
    assert other["low"] == other["high"] == other["mean"] == pytest.approx(0.7)
    difference = found["differences"]["chameleon;loss.image=1"]["generation_accuracy"]
    assert difference["values"] == pytest.approx([-0.2, -0.1, -0.3])
    assert found["reference"] == "transfusion"
    assert found["seeds"]["transfusion"] == [0, 1, 2]
    assert found["facts"]["transfusion"] == [{"seconds": 0}, {"seconds": 1}, {"seconds": 2}]
    assert found["figures"]["generation_accuracy"] == {"title": "generation accuracy", "form": "number"}
    assert found["faults"]["transfusion"] == [{}, {}, {}]
    assert (found["data"], found["command"]) == ({"name": "digits"}, "transfuse compare")


def test_two_seeds_have_null_bounds_and_a_diverged_one_a_null_mean() -> None:
    records = [*runs("transfusion", 0.9, 0.8), *runs("chameleon", nan, 0.7)]
    found = comparison(records, {})["recipes"]
    assert found["transfusion"]["generation_accuracy"]["low"] is None
    assert found["chameleon"]["generation_accuracy"]["mean"] is None
    assert found["chameleon"]["generation_accuracy"]["values"] == [None, 0.7]


def test_a_metric_one_seed_lacks_has_no_mean() -> None:
    records = [run(seed=0), run(seed=1, metrics={"train_flops": 1.0})]
    found = comparison(records, {})["recipes"]["transfusion"]
    assert found["generation_accuracy"]["values"] == [0.9, None]
    assert found["train_flops"]["mean"] == pytest.approx(5e11)


def test_entries_without_a_shared_seed_are_not_paired() -> None:
    records = [run("a", 0), run("b", 1)]
    assert comparison(records, {})["differences"] == {"b": {}}


def test_one_seed_twice_is_refused() -> None:
    with pytest.raises(TransfuseError, match="transfusion has two runs of seed 1"):
        comparison([run(seed=1), run(seed=1)], {})
    with pytest.raises(TransfuseError, match="no run to compare"):
        comparison([], {})
