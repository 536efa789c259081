"""Files in exactly the form of the published checkpoints, written by Flax itself."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.networks.unet import UNet
from diffusion_ode.tools.import_reference import import_reference


def small_model(**network: Any) -> Model:
    sizes = {"features": 32, "blocks": 1, "dropout": 0.1} | network
    return Model(
        VariancePreserving(),
        LinearSchedule(-13.3, 5.0),
        VelocityPrediction(),
        UNet(**sizes),
        Pixels((8, 8, 3), 256),
    )


@dataclasses.dataclass(frozen=True)
class Trees:
    """What is in a file: nested dicts of NumPy arrays."""

    parameters: Any
    ema: Any
    mu: Any
    nu: Any


def random_trees(model: Model, seed: int = 0) -> Trees:
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw():
        return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)

    return Trees(draw(), draw(), draw(), jax.tree.map(np.square, draw()))


def published_tree(trees: Trees, *, step: int = 600, accumulated: bool = False) -> dict[str, Any]:
    """The state dict, as the authors' training state becomes one."""

    def named(tree):
        return {"score_model": tree}

    adam = {"count": np.asarray(step, np.int32), "mu": named(trees.mu), "nu": named(trees.nu)}
    optimizer: dict[str, Any] = {"0": adam, "1": {"inner_state": {}}, "2": {}}
    if accumulated:
        optimizer = {
            "mini_step": np.asarray(1, np.int32),
            "gradient_step": np.asarray(step // 4, np.int32),
            "inner_opt_state": optimizer,
            "acc_grads": named(jax.tree.map(np.ones_like, trees.mu)),
            "skip_state": {},
        }
    return {
        "step": step,
        "params": named(trees.parameters),
        "ema_params": named(trees.ema),
        "opt_state": optimizer,
    }


def write_published(folder: Path, trees: Trees, *, step: int = 600, **form: Any) -> Path:
    path = folder / f"ckpt-{step}.flax"
    path.write_bytes(serialization.msgpack_serialize(published_tree(trees, step=step, **form)))
    return path


def imported_run(folder: Path, workdir: Path) -> Path:
    """A workdir made of a published checkpoint at step 600, as `--init_from` and exports take it.

    Args:
      folder: for the checkpoint.
      workdir: to be made.
    """
    write_published(folder, random_trees(small_model()), step=600)
    import_reference(folder, workdir)
    return workdir
