"""What an expert did: what it was told, what it sensed, and its next actions."""

from functools import cached_property

from pydantic import Field
from transfuse.plugin import DataSet, Document, Item, Settings, checked_index, checked_split, content_hash

from tf_pendulum.expert import GOALS, STEPS, trajectory

CHUNK = 8  # actions of a document
EACH = STEPS - CHUNK  # documents of an episode


class PendulumSettings(Settings):
    train: int = Field(default=80, ge=1)
    """Episodes to train on."""
    heldout: int = Field(default=4, ge=1)
    """Episodes held out."""
    disturbed: float = Field(default=1.0, ge=0, le=4)
    """Spread of the torque that disturbs what the expert does."""


class Pendulum(DataSet):
    name = "pendulum"
    tasks = ("text+state->action",)

    def __init__(self, settings: PendulumSettings) -> None:
        self.settings = settings

    def size(self, split):
        return EACH * getattr(self.settings, checked_split(self.name, split))

    def document(self, split, index, rng=None):
        episode, step = divmod(checked_index(self.name, split, index, self.size(split)), EACH)
        goal, states, wanted = self._episodes[split][episode]
        items = (
            Item("text", goal),
            Item("state", states[step : step + 1].copy(), loss=False, noised=False),
            Item("action", wanted[step : step + CHUNK].copy()),
        )
        return Document(items, 2 * index + (split == "heldout"), f"pendulum {split} {index}")

    def identity(self):
        return {"name": self.name, "content": content_hash(self), "licence": "CC0"}

    @cached_property
    def _episodes(self):
        """By split, each episode's goal, states and torques; seeds of held-out ones are odd."""
        goals = list(GOALS)
        return {
            split: [
                (goal, *trajectory(goal, 2 * number + (split == "heldout"), self.settings.disturbed))
                for number in range(getattr(self.settings, split))
                for goal in [goals[number % len(goals)]]
            ]
            for split in ("train", "heldout")
        }
