"""Gymnasium's Pendulum-v1, what it can be told to do, and a scripted expert that does it."""

from collections.abc import Callable

import gymnasium
import numpy as np

STEPS, LAST = 200, 50  # of an episode, and at its end, where the goal has to be kept
GOALS = {"stand up": 0.0, "hang still": np.pi}
"""What is said, and the angle that it asks for; 0 is upright."""
Policy = Callable[[list[np.ndarray], int], np.ndarray]
"""From the states of all episodes, and the number of the step, to torques ``[episodes, steps ahead]``."""


def angle(state: np.ndarray) -> float:
    return float(np.arctan2(state[1], state[0]))


def expert(goal: str, state: np.ndarray) -> float:
    """The torque in [-2, 2] for a state (cos, sin, angular velocity).

    Swings up by giving energy (Åström and Furuta 2000), holds by a linear law, or takes all energy away.
    """
    theta, speed = angle(state), float(state[2])
    if goal == "hang still":
        torque = -3 * speed
    elif abs(theta) < 0.35 and abs(speed) < 2.5:
        torque = -(10 * theta + 3 * speed)
    else:
        energy = speed**2 / 6 + 5 * (np.cos(theta) - 1)  # 0 upright and at rest
        torque = -energy * speed  # as long as it swings; where it hangs, whichever way
    return float(np.clip(torque, -2, 2))


def episodes(goal: str, count: int, policy: Policy, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Each episode's return, as gymnasium counts it (of standing up), and whether the goal was kept at the end.

    All episodes go on together. A policy's torques are taken one after another, then it is asked again.
    """
    worlds = [gymnasium.make("Pendulum-v1", max_episode_steps=STEPS) for _ in range(count)]
    states = [world.reset(seed=seed + i)[0] for i, world in enumerate(worlds)]
    returns, kept, ahead = np.zeros(count), np.ones(count, bool), np.zeros((count, 0))
    for step in range(STEPS):
        if not ahead.shape[1]:
            ahead = policy(states, step)
        for i, world in enumerate(worlds):
            states[i], reward, *_ = world.step(ahead[i, :1])
            returns[i] += reward
            off = (angle(states[i]) - GOALS[goal] + np.pi) % (2 * np.pi) - np.pi
            kept[i] &= step < STEPS - LAST or abs(off) < 0.2
        ahead = ahead[:, 1:]
    return returns, kept


def trajectory(goal: str, seed: int, disturbed: float) -> tuple[np.ndarray, np.ndarray]:
    """States ``[200, 3]`` of an episode and what the expert wants there ``[200, 1]``; what is done is disturbed by
    noise of this spread, so that there are states off its own path (DART, arXiv 1703.09327)."""
    draw, world = np.random.default_rng(seed), gymnasium.make("Pendulum-v1", max_episode_steps=STEPS)
    state, states, wanted = world.reset(seed=seed)[0], [], []
    for _ in range(STEPS):
        torque = expert(goal, state)
        states.append(state)
        wanted.append([torque])
        state = world.step(np.array([torque + disturbed * draw.standard_normal()]))[0]
    return np.array(states, np.float32), np.array(wanted, np.float32)
