"""Make the hopper set: 10,000 flights and falls of a simulated one-legged robot, 100 steps of 14 numbers each.

    pip install dm_control "mujoco<4"
    MUJOCO_GL=disable python benchmarks/hopper.py --output runs/hopper.npz

The set of Rubanova et al. (Latent ODEs, arXiv 1907.03907, appendix), on which imputation is compared by NRTSI, SSSD
(arXiv 2208.09399) and Diffusion-TS (arXiv 2403.01742): the hopper of the DeepMind Control Suite starts anywhere from
0 to 0.5 along and above the ground, with its angles from -2 to 2 and all speeds from -5 to 5, and nothing drives it.
A step holds seven positions and seven speeds. Needs nothing of this package, so that it may run in an environment of
its own.
"""

import argparse
from pathlib import Path

import numpy as np
from dm_control import suite  # pyright: ignore[reportMissingImports]


def trajectories(count: int, steps: int, seed: int) -> np.ndarray:
    """Return positions and speeds of undriven hoppers, ``(count, steps, 14)``."""
    physics, generator = suite.load("hopper", "stand").physics, np.random.default_rng(seed)
    series = np.empty((count, steps, physics.data.qpos.size + physics.data.qvel.size), np.float32)
    for one in series:
        with physics.reset_context():
            physics.data.qpos[:2] = generator.uniform(0, 0.5, 2)
            physics.data.qpos[2:] = generator.uniform(-2, 2, physics.data.qpos.size - 2)
            physics.data.qvel[:] = generator.uniform(-5, 5, physics.data.qvel.size)
        for row in one:
            row[:] = np.concatenate([physics.data.qpos, physics.data.qvel])
            physics.step()
    return series


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--output", type=Path, default=Path("runs/hopper.npz"))
    args = options.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.output, x=trajectories(args.count, args.steps, args.seed))


if __name__ == "__main__":
    main()
