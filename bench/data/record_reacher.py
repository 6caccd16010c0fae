"""Record state-action demonstrations of a working expert in Reacher-v5 (MuJoCo).

The expert is analytic inverse kinematics of the two-link arm with a PD controller on its joints. It is a
function of the observation alone, so the demonstrations are a regression problem: 10 state entries in,
2 torques out. How to run it, in an environment of its own::

    python -m venv /tmp/reacher && /tmp/reacher/bin/pip install "gymnasium[mujoco]"
    /tmp/reacher/bin/python bench/data/record_reacher.py

It writes reacher.npz next to this script (``--output`` for another place): ``observations`` float32
(steps, 10), ``actions`` float32 (steps, 2), ``episode`` int32 (steps,), ``final_distance`` float32
(episodes,) in metres, and ``about``, a string. The same arguments and versions give the same file. If the
mean final distance of fingertip and target is not below 2 cm, nothing is written and the exit status is 1.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

ENVIRONMENT = "Reacher-v5"
STEPS = 50  # of an episode; the environment's own default
LINKS = (0.1, 0.11)  # m: shoulder to elbow, elbow to fingertip
ELBOW_LIMIT = 3.0  # rad, the range of the elbow joint in reacher.xml
FREQUENCY = 10.0  # rad/s, closed-loop natural frequency; an episode leaves about 0.1% of the error
GEAR, INERTIA, DAMPING = 200.0, 1.0, 1.0  # of both joints; the armature dwarfs the inertia of the links
# Critically damped: without overshoot the nearest elbow branch stays the nearest until the end.
GAIN_P = FREQUENCY**2 * INERTIA / GEAR
GAIN_D = (2 * FREQUENCY * INERTIA - DAMPING) / GEAR
MAX_MEAN_DISTANCE = 0.02  # m


def wrap(angle: np.ndarray) -> np.ndarray:
    """Return the same angle in [-pi, pi)."""
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def joint_goals(target: np.ndarray) -> np.ndarray:
    """Return the joint angles that put the fingertip at the target, one row per elbow branch."""
    first, second = LINKS
    cosine = (target @ target - first**2 - second**2) / (2 * first * second)
    # Targets too far out or too close in: point at them with the elbow straight or at its limit.
    bend = np.arccos(np.clip(cosine, np.cos(ELBOW_LIMIT), 1.0))
    elbow = np.array([bend, -bend])
    offset = np.arctan2(second * np.sin(elbow), first + second * np.cos(elbow))
    return np.stack([np.arctan2(target[1], target[0]) - offset, elbow], axis=1)


def expert(observation: np.ndarray) -> np.ndarray:
    """Return the torques in [-1, 1] that drive the arm to the nearest joint angles at the target."""
    cosines, sines, target, velocities = observation[:8].reshape(4, 2)
    joints = np.arctan2(sines, cosines)
    errors = joint_goals(target) - joints
    # Only the shoulder turns freely; the elbow must not take the short way through its limit.
    errors[:, 0] = wrap(errors[:, 0])
    error = errors[np.argmin(np.sum(errors**2, axis=1))]
    return np.asarray(np.clip(GAIN_P * error - GAIN_D * velocities, -1.0, 1.0))


def record(episodes: int, seed: int) -> dict[str, Any]:
    """Return the arrays of the file; episode e is reset with seed + e."""
    observations = np.empty((episodes, STEPS, 10), dtype=np.float32)
    actions = np.empty((episodes, STEPS, 2), dtype=np.float32)
    final_distance = np.empty(episodes, dtype=np.float32)
    env = gymnasium.make(ENVIRONMENT, max_episode_steps=STEPS)
    for e in range(episodes):
        observation, _ = env.reset(seed=seed + e)
        for t in range(STEPS):
            observations[e, t] = observation
            actions[e, t] = expert(observation)
            observation, *_ = env.step(actions[e, t])
        final_distance[e] = np.linalg.norm(observation[8:10])
    env.close()
    return {
        "observations": observations.reshape(-1, 10),
        "actions": actions.reshape(-1, 2),
        "episode": np.repeat(np.arange(episodes, dtype=np.int32), STEPS),
        "final_distance": final_distance,
        "about": np.array(about(episodes, seed)),
    }


def about(episodes: int, seed: int) -> str:
    """Return where the demonstrations come from."""
    return (
        f"{ENVIRONMENT}, gymnasium {gymnasium.__version__}, mujoco {mujoco.__version__}; expert: inverse "
        f"kinematics (elbow branch nearest the joints) and PD on the joint angles (gains {GAIN_P:g} and "
        f"{GAIN_D:g}), torques clipped to [-1, 1]; {episodes} episodes of {STEPS} steps, "
        f"reset with seeds {seed} to {seed + episodes - 1}; recorded by bench/data/record_reacher.py"
    )


def report(arrays: dict[str, Any]) -> None:
    """Print how close the fingertip got and how the actions spread."""
    distance, actions = 1000 * arrays["final_distance"], arrays["actions"]
    covariance = np.cov(actions, rowvar=False)
    print(f"{len(actions)} steps in {len(distance)} episodes")
    print(f"final distance: mean {distance.mean():.3f} mm, worst {distance.max():.3f} mm,")
    print(f"  95th percentile {np.percentile(distance, 95):.3f} mm")
    print(f"actions: covariance {covariance.tolist()}, eigenvalues {np.linalg.eigvalsh(covariance).tolist()}")
    print(f"  correlation {np.corrcoef(actions, rowvar=False)[0, 1]:.4f}, largest {abs(actions).max():.4f},")
    print(f"  saturated in {np.mean(np.any(abs(actions) >= 1, axis=1)):.2%} of the steps")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=60, help="number of episodes (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="episode e uses seed + e (default: 0)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("reacher.npz"))
    arguments = parser.parse_args()
    if arguments.episodes < 1 or arguments.seed < 0:
        parser.error("--episodes must be at least 1 and --seed at least 0")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    arrays = record(arguments.episodes, arguments.seed)
    report(arrays)
    if not arrays["final_distance"].mean() < MAX_MEAN_DISTANCE:
        sys.exit(f"the expert fails: mean final distance not below {MAX_MEAN_DISTANCE} m; nothing written")
    with arguments.output.open("wb") as file:  # given a name, numpy would append .npz to some
        np.savez_compressed(file, **arrays)
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
