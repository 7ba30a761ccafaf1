"""Training is a library: a loop of a few lines trains, saves and goes on with core and plugins, without the lab."""

import json
import subprocess
import sys
from pathlib import Path

LOOP = """
import sys
sys.modules["transfuse_lab"] = None  # whoever imports it fails

from pathlib import Path
import numpy as np
from transfuse.checkpoints import RunFolder
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse.model.build import build_modalities, build_model, fit_modalities
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins
from transfuse.training import Trainer

class Squares(DataSet):
    name = "squares"
    def size(self, split):
        return 8
    def document(self, split, index, rng=None):
        image = np.full((1, 8, 8), index / 8, np.float32)
        return Document((Item("text", f"square {index}", droppable=True), Item("image", image)), index)
    def identity(self):
        return {"name": self.name}

plugins, run = Plugins.load(disabled=["lab", "adapters"]), RunFolder(Path(sys.argv[1]))
small = ["image.codec=pixel", "model.dim=16", "model.layers=1", "model.heads=2", "train.budget=160"]
recipe = Registry.load(plugins, [packaged_file()]).recipe("transfusion", small)
modalities = fit_modalities(build_modalities(recipe), Squares(), 0, lambda line: None)
trainer = Trainer(recipe, build_model(recipe, modalities, plugins), Squares())
run.write_description(recipe, trainer.model)
for _ in range(3):
    trainer.step()
trainer.save(run)

again = RunFolder(run.path)
resumed = Trainer(recipe, again.build_model(again.recipe(plugins), plugins), Squares())
resumed.resume(again.checkpoint)
import json
print(json.dumps([resumed.progress.step, *[[t.step(), t.step()] for t in (trainer, resumed)]]))
"""


def test_a_loop_without_the_lab(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOOP, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps, one, two = json.loads(done.stdout)
    assert steps == 3
    assert one[0].keys() == {"loss_text", "loss_image", "lr", "grad_norm"}
    assert one == two, "the fourth and fifth step are the same after a restart"
