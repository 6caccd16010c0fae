"""Record state-action demonstrations in Swimmer-v5 or Hopper-v5 (MuJoCo) of an expert that random search has found.

The expert is a linear map of the state, clipped to the range of the torques. It is found by augmented random search
(Mania, Guy and Recht, NeurIPS 2018: directions are tried in pairs, and the best of them are followed), for Hopper with
states that are normalised by what has been seen. Swimmer's is recorded with a quarter of its gain, see `Search`.
Hopper's is mediocre: it hops a few times and falls. How to run it, in an environment of its own::

    python -m venv /tmp/walkers && /tmp/walkers/bin/pip install "gymnasium[mujoco]"
    /tmp/walkers/bin/python bench/data/record_walkers.py Swimmer-v5
    /tmp/walkers/bin/python bench/data/record_walkers.py Swimmer-v5 --gain 1 --output bench/data/swimmer_jumping.npz
    /tmp/walkers/bin/python bench/data/record_walkers.py Hopper-v5 --seed 1

It writes swimmer.npz or hopper.npz next to this script (``--output`` for another place): ``observations`` float32
(steps, inputs), ``actions`` float32 (steps, outputs), ``episode`` int32 (steps,), ``returns`` float32 (episodes,), and
``about``, a string. The same arguments and versions give the same file. If the mean return is below what is expected of
the environment, nothing is written and the exit status is 1.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np


@dataclass(frozen=True)
class Search:
    """How an expert is searched for, and what is recorded of it.

    Attributes
    ----------
    directions, best : int
        Directions that are tried in one step, and how many of them are followed.
    step_size, noise : float
        Of a step, and standard deviation of what is tried.
    steps : int
    is_normalised : bool
        Whether states are.
    bonus : float
        What the environment pays for each step without a fall, which the search does not see.
    gain : float
        What the policy that was found is multiplied by before it is recorded. The best one for Swimmer makes both
        torques jump between -1 and 1; with a quarter of it most of them lie between, and it swims at two thirds of the
        speed.
    expected : float
        The least mean return of the recorded episodes.
    episodes : int
        How many are recorded.
    """

    directions: int
    best: int
    step_size: float
    noise: float
    steps: int
    is_normalised: bool
    bonus: float
    gain: float
    expected: float
    episodes: int


SEARCHES = {
    "Swimmer-v5": Search(2, 2, 0.05, 0.1, 60, is_normalised=False, bonus=0.0, gain=0.25, expected=200.0, episodes=3),
    "Hopper-v5": Search(8, 4, 0.02, 0.025, 140, is_normalised=True, bonus=1.0, gain=1.0, expected=450.0, episodes=20),
}


class Policy:
    """A linear map of states, normalised by the running moments of those that it was given to learn."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weights = np.zeros((outputs, inputs))
        self.count = 0
        self.mean = np.zeros(inputs)
        self.squares = np.zeros(inputs)

    def act(self, state: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Torques in [-1, 1]."""
        deviation = np.sqrt(self.squares / max(self.count - 1, 1)) if self.count > 1 else np.ones_like(state)
        deviation[deviation < 1e-7] = np.inf
        return np.clip(weights @ ((state - self.mean) / deviation), -1.0, 1.0)

    def learn(self, states: np.ndarray) -> None:
        """Add states to the moments."""
        total = self.count + len(states)
        mean, between = states.mean(axis=0), states.mean(axis=0) - self.mean
        self.squares += np.square(states - mean).sum(axis=0) + np.square(between) * self.count * len(states) / total
        self.mean = self.mean + between * len(states) / total
        self.count = total


def run_episode(environment: Any, policy: Policy, weights: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """States, torques and rewards until a fall or the end of the episode."""
    state, _ = environment.reset(seed=seed)
    states, actions, rewards = [], [], []
    while True:
        action = policy.act(state, weights)
        states.append(state)
        actions.append(action)
        state, reward, fell, ended, _ = environment.step(action)
        rewards.append(reward)
        if fell or ended:
            return {"states": np.array(states), "actions": np.array(actions), "rewards": np.array(rewards)}


def find_expert(environment: Any, search: Search, seed: int) -> Policy:
    """Augmented random search; the best policy that it came by, by its return in one episode."""
    rng = np.random.default_rng(seed)
    policy = Policy(environment.observation_space.shape[0], environment.action_space.shape[0])
    best_return, best = -np.inf, policy.weights
    for step in range(search.steps):
        tried = rng.standard_normal((search.directions, *policy.weights.shape))
        seen, returns = [], np.empty((search.directions, 2))
        for index, direction in enumerate(tried):
            for side, sign in enumerate((1.0, -1.0)):
                weights = policy.weights + sign * search.noise * direction
                episode = run_episode(environment, policy, weights, seed=int(rng.integers(2**31)))
                seen.append(episode["states"])
                returns[index, side] = np.sum(episode["rewards"] - search.bonus)
        chosen = np.argsort(-returns.max(axis=1))[: search.best]
        spread = returns[chosen].std() or 1.0
        slope = (returns[chosen, 0] - returns[chosen, 1]) @ tried[chosen].reshape(search.best, -1)
        policy.weights = policy.weights + search.step_size / (search.best * spread) * slope.reshape(
            policy.weights.shape
        )
        if search.is_normalised:
            policy.learn(np.concatenate(seen))
        if step % 20 == 19:
            found = np.mean(
                [run_episode(environment, policy, policy.weights, seed=e)["rewards"].sum() for e in range(2)]
            )
            print(f"step {step + 1}: return {found:.1f}", flush=True)
            if found > best_return:
                best_return, best = found, policy.weights
                kept = (policy.count, policy.mean, policy.squares.copy())
    policy.weights, (policy.count, policy.mean, policy.squares) = best, kept
    return policy


def record(name: str, search: Search, seed: int) -> dict[str, Any]:
    """The arrays of the file; episode e is reset with seed + e."""
    environment = gymnasium.make(name)
    policy = find_expert(environment, search, seed)
    policy.weights = search.gain * policy.weights
    episodes = [run_episode(environment, policy, policy.weights, seed + e) for e in range(search.episodes)]
    environment.close()
    lengths = [len(episode["states"]) for episode in episodes]
    return {
        "observations": np.concatenate([episode["states"] for episode in episodes]).astype(np.float32),
        "actions": np.concatenate([episode["actions"] for episode in episodes]).astype(np.float32),
        "episode": np.repeat(np.arange(search.episodes, dtype=np.int32), lengths),
        "returns": np.array([episode["rewards"].sum() for episode in episodes], dtype=np.float32),
        "about": np.array(about(name, search, seed)),
    }


def about(name: str, search: Search, seed: int) -> str:
    """Where the demonstrations come from."""
    return (
        f"{name}, gymnasium {gymnasium.__version__}, mujoco {mujoco.__version__}; expert: linear in the state, "
        f"clipped to [-1, 1], found by augmented random search ({search.steps} steps of {search.directions} pairs of "
        f"directions, seed {seed}), times {search.gain:g}; {search.episodes} episodes, reset with seeds {seed} to "
        f"{seed + search.episodes - 1}; "
        "recorded by bench/data/record_walkers.py"
    )


def report(arrays: dict[str, Any]) -> None:
    """Print the returns and how the actions spread."""
    returns, actions = arrays["returns"], arrays["actions"]
    covariance = np.atleast_2d(np.cov(actions, rowvar=False))
    print(
        f"{len(actions)} steps in {len(returns)} episodes; return: mean {returns.mean():.1f}, least {returns.min():.1f}"
    )
    print(f"actions: covariance {covariance.tolist()}, eigenvalues {np.linalg.eigvalsh(covariance).tolist()}")
    print(f"  correlations {np.corrcoef(actions, rowvar=False).round(4).tolist()}")
    print(f"  saturated in {np.mean(np.any(abs(actions) >= 1, axis=1)):.2%} of the steps")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environment", choices=SEARCHES)
    parser.add_argument("--seed", type=int, default=0, help="of the search and of the episodes (default: 0)")
    parser.add_argument("--gain", type=float, help="another one than the environment's own, see Search")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    search = SEARCHES[arguments.environment]
    if arguments.gain is not None:
        search = replace(search, gain=arguments.gain)
    arrays = record(arguments.environment, search, arguments.seed)
    report(arrays)
    if not arrays["returns"].mean() >= search.expected:
        sys.exit(f"the expert fails: its mean return is below {search.expected}; nothing written")
    stem = arguments.environment.partition("-")[0].lower()
    output = arguments.output or Path(__file__).with_name(f"{stem}.npz")
    with output.open("wb") as file:  # given a name, numpy would append .npz to some
        np.savez_compressed(file, **arrays)
    print(f"wrote {output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
