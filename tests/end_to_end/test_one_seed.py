"""One seed means one run, in any process, at any pace, and after a restart."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.checkpoints import RunFolder
from transfuse.documents import Document, Item
from transfuse.generation.decoding import generate
from transfuse.training.trainer import Trainer

LOSSES = """
import json, sys
from transfuse.model.build import build_modalities, build_model, fit_modalities
from transfuse.registry.plugins import Plugins
from transfuse.config.recipe import Recipe
from transfuse_lab.datasets.digits import Digits
from transfuse.training.trainer import Trainer

class Few(Digits):
    def size(self, split):
        return 40

def losses(dump):
    plugins, data = Plugins.load(), Few()
    recipe = Recipe.from_dump(dump, plugins)
    model = build_model(recipe, fit_modalities(build_modalities(recipe), data, 0, lambda line: None), plugins)
    trainer = Trainer(recipe, model, data)
    return [trainer.step() for _ in range(3)]

if __name__ == "__main__":
    print(json.dumps([losses(dump) for dump in json.load(sys.stdin)]))
"""

RESTORED = """
import json, sys
from hashlib import sha256
from pathlib import Path
from transfuse.checkpoints import RunFolder
from transfuse.checkpoints.checkpoint import OPTIMIZER
import torch
from transfuse.registry.plugins import Plugins
from transfuse.training.optimizer import restore_optimizer
def state(folder):
    run, plugins = RunFolder(folder), Plugins.load()
    model = run.build_model(run.recipe(plugins), plugins)
    optimizer = torch.optim.AdamW(model.trained(), lr=0.0)
    restore_optimizer(model, optimizer, run.checkpoint.tensors(OPTIMIZER))
    return {
        name: {key: sha256(value.numpy().tobytes()).hexdigest() for key, value in optimizer.state[p].items()}
        for name, p in model.named_parameters() if p.requires_grad
    }
print(json.dumps([state(Path(folder)) for folder in sys.argv[1:]]))
"""


def fresh(program: str, *arguments: str, text: str = "") -> dict | list:
    """What a program prints as JSON in a process of its own, with another hash seed."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_one_seed_one_loss_in_any_process_at_any_pace(
    small_recipe: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps = [small_recipe(name, "train.rows=2").dump() for name in ("transfusion", "chameleon")]
    there = fresh(LOSSES, text=json.dumps(dumps))
    # Here: other global random state, other clocks.
    torch.manual_seed(torch.seed())
    np.random.seed(1)
    clock = iter(range(10**6))
    for ticking in ("time", "monotonic", "process_time", "perf_counter"):
        monkeypatch.setattr(time, ticking, lambda: 1e6 * next(clock))
    program: dict = {"__name__": "here"}
    exec(LOSSES, program)
    for dump, told in zip(dumps, there, strict=True):
        assert program["losses"](dump) == told
    dumps[0]["train"]["seed"] = 1
    assert program["losses"](dumps[0])[0] != there[0][0]


def test_greedy_text_after_an_image_is_deterministic(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    data = shapes(reversed_share=1.0)
    recipe = small_recipe("transfusion", "train.steps=3")
    trainer = Trainer(recipe, fitted(recipe, data), data)
    for _ in range(3):
        trainer.step()
    image = data.document("test", 0).items[1].data
    asked = Document((Item("image", image, noised=False),))
    said = {
        generate(trainer.model, [asked], want="text", seed=seed, tokens=8, indices=[seed])[0].items[-1].data
        for seed in range(5)
    }
    assert len(said) == 1
    # An image that the model has just drawn is shown clean too: what follows is fixed by what was drawn.
    words = Document((Item("text", "up", droppable=True),))
    drawn, again = (generate(trainer.model, [words], items=2, tokens=6, seed=3)[0] for _ in range(2))
    assert [i.modality for i in drawn.items] == [i.modality for i in again.items]
    for one, two in zip(drawn.items, again.items, strict=True):
        np.testing.assert_array_equal(one.data, two.data)


def test_optimiser_state_survives_a_restart_parameter_by_parameter(
    small_recipe: Callable, fitted: Callable, shapes: Callable, tmp_path: Path
) -> None:
    here = []
    for name in ("transfusion", "chameleon"):
        data, recipe = shapes(), small_recipe(name)
        trainer = Trainer(recipe, fitted(recipe, data), data)
        for _ in range(2):
            trainer.step()
        run = RunFolder(tmp_path / name)
        run.write_description(recipe, trainer.model)
        trainer.save(run)
        state = {
            name: {
                key: sha256(value.numpy().tobytes()).hexdigest()
                for key, value in trainer.optimizer.state[parameter].items()
            }
            for name, parameter in trainer.model.named_parameters()
            if parameter.requires_grad
        }
        assert all(set(values) == {"step", "exp_avg", "exp_avg_sq"} for values in state.values())
        moments = [values["exp_avg"] for values in state.values()]
        # Two biases that are added to each other have one gradient; no others, or a scramble would not show.
        assert len(set(moments)) >= len(moments) - 1
        here.append(state)
    assert fresh(RESTORED, str(tmp_path / "transfusion"), str(tmp_path / "chameleon")) == here
