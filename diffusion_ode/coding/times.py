"""Where the T steps of a chain lie: evenly in γ, or more of them where a long step costs more."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.typing import Parameters

EVEN = b""
"""The density of equal steps in γ."""
_PARTS = 8  # of γ's range: a byte each
_IMAGES = 64  # the first ones tell where steps are needed
_DRAWS = 2  # of noise, the same for every γ
_LEAST = 16  # of 255: no part is left without steps


def levels(model: Model, steps: int, density: bytes) -> np.ndarray:
    """The γ of T + 1 levels, float64, from the data's end to the noise's.

    Args:
      model: whose schedule gives both ends.
      steps: T.
      density: of steps in equal parts of γ's range, from the data's end; `EVEN`, or a byte each.
    """
    ends = model.schedule.gamma_0, model.schedule.gamma_1
    weights = np.frombuffer(density, np.uint8).astype(np.float64) if density else np.ones(1)
    reached = np.append(0.0, np.cumsum(weights)) / weights.sum()
    knots = np.linspace(*ends, len(weights) + 1)
    return np.interp(np.linspace(0.0, 1.0, steps + 1), reached, knots)


def density(model: Model, parameters: Parameters, images: np.ndarray) -> bytes:
    """The density √(L + L') with L(γ) = E‖ε − ε̂‖², which makes the T-step bound shortest.

    A step from γ to γ + Δ costs ½(e^Δ − 1) L(γ + Δ), which is ¼Δ²(L + L') above the integral ½∫L
    to second order: with Δ = 1/(T·density) the sum is smallest at density ∝ √(L + L'). And
    L + L' = e^{−γ} d(e^γ L)/dγ is positive where more noise leaves less to be known.

    Args:
      model, parameters: whose L it is.
      images: levels [n, h, w, c]; the first ones are looked at.
    """
    some = jnp.asarray(images[:_IMAGES], jnp.int32)
    gammas = np.linspace(model.schedule.gamma_0, model.schedule.gamma_1, _PARTS + 1)
    keys = jax.random.split(jax.random.key(0), _DRAWS)
    loss = np.asarray(
        [
            np.mean([_loss(model, parameters, some, gamma, key) for key in keys])
            for gamma in gammas.astype(np.float32)
        ]
    )
    # Divided by its own middle before it is differenced: e^γ spans ten decades.
    half = 0.5 * (gammas[1] - gammas[0])
    excess = np.maximum(np.exp(half) * loss[1:] - np.exp(-half) * loss[:-1], 0.0)
    root = np.sqrt(excess)
    if not root.max() > 0.0:
        return EVEN
    return np.clip(np.rint(255.0 * root / root.max()), _LEAST, 255).astype(np.uint8).tobytes()


def is_density(given: bytes) -> bool:
    """Whether `density` can have made it, or it is `EVEN`."""
    return given == EVEN or (len(given) == _PARTS and min(given) >= _LEAST)


@functools.partial(jax.jit, static_argnums=0)
def _loss(model: Model, parameters: Parameters, levels: Any, gamma: Any, key: Any):
    """The mean of ‖ε − ε̂‖² over images, in one draw of ε."""
    x = model.pixels.encode(levels)
    gamma = jnp.full(len(levels), gamma)
    noise = jax.random.normal(key, x.shape)
    z = model.noised(x, gamma, noise)
    output = model.predict(parameters, z, gamma, jnp.zeros_like(gamma))
    return jnp.mean(squared_norm(noise - model.noise(output, z, gamma)))
