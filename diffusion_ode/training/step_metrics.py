"""What a training step tells of itself."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffusion_ode import units
from diffusion_ode.diffusion.model import Model
from diffusion_ode.objectives.objective import Integrand, LossTerms
from diffusion_ode.typing import Array, Parameters

BITS_BY_TIME = "bits_by_time"
"""The metric that is no scalar: sums of the integrand, and counts, in bins of γ [2, bins]."""
_TIME_BINS = 20  # one sees where bits go, and a few steps put images into each


def step_metrics(
    model: Model, terms: LossTerms, gradients: Any, updates: Any, parameters: Parameters
) -> dict[str, Array]:
    """Scalars, and `BITS_BY_TIME` where the objective tells its integrand.

    The bits are those of the bound, whatever the loss. A group of modules that is the only one
    would be the same curve twice, and is left out.

    Args:
      model, terms: what came of each image.
      gradients: of the mean loss in nats per dimension.
      updates, parameters: what was added, and to what.
    """
    dimensions = model.pixels.dimensions
    bits = units.bits_per_dimension(terms.loss, dimensions)
    bound = bits if terms.bound is None else units.bits_per_dimension(terms.bound, dimensions)
    metrics = {
        "bpd": jnp.mean(bound),
        "loss_variance": jnp.var(bits),
        "gradient_norm": optax.tree.norm(gradients),
        "update_to_weight": optax.tree.norm(updates) / optax.tree.norm(parameters),
    }
    if terms.bound is not None:
        metrics["weighted_loss"] = jnp.mean(terms.loss) / dimensions
    groups = _groups(gradients)
    for name, group in groups.items() if len(groups) > 1 else ():
        metrics[f"gradient_norm/{name}"] = optax.tree.norm(group)
    for name, part in terms.parts.items():
        metrics[f"{name}_bpd"] = jnp.mean(units.bits_per_dimension(part, dimensions))
    if terms.integrand is not None:
        metrics[BITS_BY_TIME] = _binned(model, terms.integrand)
    return metrics


def _groups(tree: Any) -> dict[str, list]:
    """The outermost modules, those that differ by a number alone together: all `down_3`s."""
    groups: dict[str, list] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path[:1], simple=True)
        groups.setdefault(re.sub(r"_?\d+$", "", name), []).append(leaf)
    return groups


def _binned(model: Model, integrand: Integrand) -> Array:
    ends = model.schedule.gamma_0, model.schedule.gamma_1
    place = (integrand.gamma - ends[0]) / (ends[1] - ends[0]) * _TIME_BINS
    bins = jnp.clip(place.astype(jnp.int32), 0, _TIME_BINS - 1)
    each = jnp.stack([integrand.value, jnp.ones_like(integrand.value)])
    return jnp.zeros((2, _TIME_BINS), each.dtype).at[:, bins].add(each)


def bits_by_time(model: Model, binned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins of γ, and the bits per dimension that the integral over each gives.

    Their sum is the integral over all times; a bin without an image counts as 0.

    Args:
      model: whose schedule and dimensions they are.
      binned: `BITS_BY_TIME`, summed over steps.
    """
    schedule = model.schedule
    edges = np.linspace(schedule.gamma_0, schedule.gamma_1, binned.shape[-1] + 1)
    total, count = binned.astype(np.float64)
    nats = np.where(count > 0, total / np.maximum(count, 1.0), 0.0) * np.diff(edges)
    return edges, np.asarray(units.bits_per_dimension(nats, model.pixels.dimensions))
