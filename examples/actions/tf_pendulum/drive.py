"""`python -m tf_pendulum.drive RUN`: a run as a policy in closed loop, against the expert and random torques."""

import argparse

import numpy as np
from transfuse import Document, Item, generate, load

from tf_pendulum.expert import GOALS, Policy, episodes, expert


def trained(run: str, goal: str, taken: int) -> Policy:
    """The policy of a run, which acts for ``taken`` steps of each chunk before it looks again."""
    _, model = load(run)

    def policy(states, step):
        prompts = [Document((Item("text", goal), Item("state", state[None]))) for state in states]
        drawn = generate(model, prompts, want="action", seed=step)
        return np.stack([document.items[-1].data[:taken, 0] for document in drawn])

    return policy


def scripted(goal: str) -> Policy:
    return lambda states, step: np.array([[expert(goal, state)] for state in states])


def random(seed: int) -> Policy:
    return lambda states, step: np.random.default_rng([seed, step]).uniform(-2, 2, (len(states), 1))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("run")
    asked.add_argument("--episodes", type=int, default=50)
    asked.add_argument("--taken", type=int, default=4, help="steps of each chunk that are taken")
    given = asked.parse_args()
    for goal in GOALS:
        policies = {
            "run": trained(given.run, goal, given.taken),
            "expert": scripted(goal),
            "random": random(0),
        }
        for name, policy in policies.items():
            returns, kept = episodes(goal, given.episodes, policy, seed=1_000_000)
            print(f"{goal}: {name:6}  success {kept.mean():4.0%}  mean return {returns.mean():7.0f}")


if __name__ == "__main__":
    main()
