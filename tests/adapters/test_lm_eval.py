"""A run as lm-eval's model: likelihoods equal to decoding id by id, and the harness's own tasks run on it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.generation import generate
from transfuse.generation.incremental import IncrementalModel
from transfuse.model.model import Model
from transfuse_adapters.lm_eval import RunLM, registered
from transfuse_adapters.references import sha256_of

from tests.tiny import runs
from tests.tiny.models import Kit

MISSING = "lm-eval is not installed: pip install 'transfuse[harness]'"
PAIRS = [("a cat", " and a dog"), ("", "two dogs"), ("two", " dogs"), ("a cat and a cat and", " a")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that has learnt a little."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = Kit().model(*runs.NAMES)
    optimizer = runs.adam(model)
    runs.train(model, optimizer, range(3))
    runs.save(folder, model, optimizer, 3)
    return folder


def asked(*arguments: Any) -> Any:
    """A request as the harness makes it."""
    return SimpleNamespace(args=arguments)


def ids(lm: RunLM, pairs: Sequence[tuple[str, str]]) -> list[tuple[Any, list[int], list[int]]]:
    return [((c, t), [lm.prefix_token_id, *lm.tok_encode(c)], lm.tok_encode(t)) for c, t in pairs]


@torch.no_grad()
def one_by_one(model: Model, context: Sequence[int], continuation: Sequence[int]) -> tuple[float, bool]:
    """The same by the cache that decoding uses: each id given those before it."""
    total, greedy, own = 0.0, True, model.vocabulary.range("text").start
    for place, id in enumerate(continuation):
        before = [one - own for one in (*context, *continuation[:place])]
        items = (Item("text", torch.tensor(before).numpy()),) if before else ()
        sequence, _ = model.layout.prompt(Document(items))
        logits = IncrementalModel(model, 1, len(sequence)).append([0], [sequence])[0].detach().double()
        total += float(torch.log_softmax(logits, -1)[id])
        greedy &= int(logits.argmax()) == id
    return total, greedy


@pytest.mark.parametrize("batch", [1, 3])
def test_likelihoods_are_those_of_decoding_id_by_id(run: Path, batch: int) -> None:
    lm = RunLM(str(run), batch_size=batch)
    requests = ids(lm, PAIRS)
    found = lm._loglikelihood_tokens(requests)
    for (_, context, continuation), (score, greedy) in zip(requests, found, strict=True):
        expected, likeliest = one_by_one(lm.model, context[1:], continuation)
        assert score == pytest.approx(expected, rel=1e-4)
        assert greedy == likeliest
    assert len({round(score, 3) for score, _ in found}) == len(PAIRS)


@torch.no_grad()
def test_what_it_goes_on_with_is_greedy(run: Path) -> None:
    lm = RunLM(str(run))
    context, likeliest = lm.tok_encode("a cat"), []
    for _ in range(3):
        sequence, _ = lm.model.layout.prompt(
            Document((Item("text", torch.tensor([*context, *likeliest]).numpy() - lm.ids.start),))
        )
        logits = IncrementalModel(lm.model, 1, len(sequence)).append([0], [sequence])[0]
        likeliest.append(int(logits[lm.ids.start : lm.ids.stop].argmax()) + lm.ids.start)
    ((_, greedy),) = lm._loglikelihood_tokens([(None, context, likeliest)])
    assert greedy == one_by_one(lm.model, context, likeliest)[1]
    ((_, greedy),) = lm._loglikelihood_tokens([(None, context, [likeliest[0], likeliest[0] + 1])])
    assert not greedy


def test_nothing_is_certain(run: Path) -> None:
    lm = RunLM(str(run))
    assert lm._loglikelihood_tokens([(None, lm.tok_encode("a cat"), [])]) == [(0.0, True)]


def test_long_texts_lose_their_beginning(run: Path) -> None:
    short, whole = RunLM(str(run), max_length=6), RunLM(str(run))
    ((_, context, continuation),) = ids(whole, [("a cat and a dog and a cat", " dog")])
    left = 6 - len(continuation)
    assert 0 < left < len(context) - 1
    expected = whole._loglikelihood_tokens([(None, context[-left:], continuation)])
    assert short._loglikelihood_tokens([(None, context, continuation)]) == expected
    with pytest.raises(TransfuseError, match="has 7 ids, and at most 6 are read at once: raise max_length"):
        short._loglikelihood_tokens([(None, context, context[1:8])])


def test_rows_of_training_say_how_long(run: Path) -> None:
    assert RunLM(str(run)).max_length == runs.recipe_of().train.budget - 2


def test_the_results_tell_which_weights(run: Path) -> None:
    info = RunLM(str(run)).get_model_info()
    assert info["model_sha256"] == sha256_of(run / "checkpoints" / "3" / "model.safetensors")
    assert (info["model_step"], info["max_length"]) == (3, runs.recipe_of().train.budget - 2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": "auto"}, "batch_size is a number of texts, not 'auto'"),
        ({"max_length": 1}, "max_length is at least 2 ids, not 1"),
        ({"run": "nowhere"}, "nowhere is not there: name the folder of a run"),
    ],
)
def test_wrong_arguments(run: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        RunLM(**{"run": str(run), **more})


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(TransfuseError, match=r"model 'transfuse' of lm-eval needs .*'transfuse\[harness\]'"):
        registered()


@pytest.fixture
def harness(run: Path) -> Any:
    pytest.importorskip("lm_eval", reason=MISSING)
    return registered().create_from_arg_string(f"run={run}", {"batch_size": 3, "device": None})


def test_whole_texts_are_scored_in_windows(harness: Any, run: Path) -> None:
    (whole,) = harness.loglikelihood_rolling([asked("a cat and a dog")])
    own = harness.tok_encode("a cat and a dog")
    assert whole == pytest.approx(one_by_one(harness.model, [], own)[0], rel=1e-4)
    harness.max_length = len(own) - 1
    (windows,) = harness.loglikelihood_rolling([asked("a cat and a dog")])
    first, last = own[: len(own) - 2], own[len(own) - 2 :]
    parts = one_by_one(harness.model, [], first)[0] + one_by_one(harness.model, first[1:], last)[0]
    assert windows == pytest.approx(parts, rel=1e-4)
    assert windows != pytest.approx(whole, rel=1e-6)
    assert harness.loglikelihood_rolling([asked("")]) == [0.0]


def written(model: Model, context: str, tokens: int) -> str:
    """What the model goes on with, greedily."""
    prompt = Document((Item("text", context),) if context else ())
    return generate(model, [prompt], want="text", tokens=tokens, greedy=True)[0].items[-1].data


def test_it_writes_up_to_a_stop(harness: Any) -> None:
    more, model = {"until": [], "max_gen_toks": 6}, harness.model
    harness.modality.settings = harness.modality.settings.model_copy(update={"temperature": 9.0})
    whole, empty = harness.generate_until([asked("a cat", more), asked("", more)])
    assert (whole, empty) == (written(model, "a cat", 6), written(model, "", 6))
    for stops in (whole[-1], [whole[-1], whole[len(whole) // 2]]):
        (cut,) = harness.generate_until([asked("a cat", {**more, "until": stops})])
        assert cut == whole[: min(map(whole.index, stops))]
    harness.max_length = 20
    context = "a cat and " * 30
    long = harness.generate_until([asked(context, {**more, "max_gen_toks": tokens}) for tokens in (6, 2)])
    kept = [
        harness.modality.decode([id - harness.ids.start for id in harness.tok_encode(context)[-n:]])
        for n in (14, 18)
    ]
    assert long == [written(model, kept[0], 6), written(model, kept[1], 2)]
    with pytest.raises(TransfuseError, match="give --gen_kwargs do_sample=False,temperature=0"):
        harness.generate_until([asked("a cat", {**more, "do_sample": True, "temperature": 1.0})])
    with pytest.raises(TransfuseError, match="asks for as many ids as are read at once, 20"):
        harness.generate_until([asked("a cat", {"max_gen_toks": 20})])


TASKS = {
    "which": """
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_target: "{{label}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{context}}"
metric_list: [{metric: bits_per_byte}]
""",
    "written": """
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: ["d"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


@pytest.mark.filterwarnings("ignore")
def test_tasks_of_the_harness_run_on_it(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set and three tasks in a folder: nothing is downloaded."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = [{"context": c, "choices": [t, " zebra"], "label": 0} for c, t in PAIRS if c]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, task in TASKS.items():
        data = f"{{data_files: {{test: {tmp_path / 'docs.jsonl'}}}, cache_dir: {tmp_path / 'cache'}}}"
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {data}\ntest_split: test\n"
        (tmp_path / f"{name}.yaml").write_text(head + task)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    found = simple_evaluate(model=harness, tasks=[*TASKS], task_manager=manager, bootstrap_iters=0)
    assert found is not None
    results = found["results"]
    scores = [
        [
            score
            for score, _ in harness._loglikelihood_tokens(
                ids(harness, [(line["context"], text) for text in line["choices"]])
            )
        ]
        for line in lines
    ]
    right = sum(first > second for first, second in scores) / len(lines)
    assert results["which"]["acc,none"] == pytest.approx(right)
    assert results["rolling"]["bits_per_byte,none"] > 0
    assert results["written"]["exact_match,none"] in (0, 1 / 3, 2 / 3, 1)
    assert found["config"]["model_sha256"] == harness.get_model_info()["model_sha256"]
