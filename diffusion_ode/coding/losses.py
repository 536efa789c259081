"""How far the network errs along γ: where the T steps of a chain lie and how wide they are."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.typing import Parameters

ANCESTRAL = b""
"""No losses: equal steps in γ, and the variances of ancestral sampling."""
_PARTS = 8  # of γ's range, a byte at each end of each
_IMAGES = 64  # the first ones are looked at
_DRAWS = 2  # of noise, the same for every γ
_WHOLE = 255  # a byte of the root of the loss 1, that of a network which knows nothing
_SPARSEST = 1 / 16  # of the largest density: no part is left without steps


def measured(model: Model, parameters: Parameters, images: np.ndarray) -> bytes:
    """The root of the loss ℓ(γ) = E‖ε − ε̂‖²/N at nine γ, in parts of 255.

    Args:
      model, parameters: whose it is.
      images: levels [n, h, w, c]; the first ones are looked at.
    """
    some = jnp.asarray(images[:_IMAGES], jnp.int32)
    keys = jax.random.split(jax.random.key(0), _DRAWS)
    loss = [
        np.mean([_loss(model, parameters, some, gamma, key) for key in keys])
        for gamma in _knots(model).astype(np.float32)
    ]
    return np.rint(_WHOLE * np.sqrt(np.minimum(loss, 1.0))).astype(np.uint8).tobytes()


def are_losses(given: bytes) -> bool:
    """Whether `measured` can have made them, or they are `ANCESTRAL`."""
    return len(given) in (len(ANCESTRAL), _PARTS + 1)


def loss_at(model: Model, gamma: np.ndarray, losses: bytes) -> np.ndarray:
    """The loss ℓ at each γ; none of `ANCESTRAL`."""
    return np.square(np.interp(gamma, _knots(model), _roots(losses)))


def gammas(model: Model, steps: int, losses: bytes) -> np.ndarray:
    """The γ of T + 1 levels, float64, from the data's end to the noise's.

    A step from γ to γ + Δ costs ½N log(1 + (e^Δ − 1) ℓ(γ + Δ)) (`LatentChain`), which is
    ¼NΔ²(ℓ + ℓ' − ℓ²) above the integral ½N∫ℓ of the continuous bound to second order. With
    Δ = 1/(T·density) the sum is smallest at density ∝ √(ℓ + ℓ' − ℓ²), which is 0 for Gaussian data.

    Args:
      model: whose schedule gives both ends.
      steps: T.
      losses: `measured`, or `ANCESTRAL`.
    """
    knots, loss = _knots(model), np.square(_roots(losses))
    middle = 0.5 * (loss[1:] + loss[:-1])
    density = np.sqrt(np.maximum(middle * (1.0 - middle) + np.diff(loss) / np.diff(knots), 0.0))
    density = np.maximum(density, _SPARSEST * density.max()) if density.any() else density + 1.0
    reached = np.append(0.0, np.cumsum(density)) / density.sum()
    return np.interp(np.linspace(0.0, 1.0, steps + 1), reached, knots)


def _knots(model: Model) -> np.ndarray:
    return np.linspace(model.schedule.gamma_0, model.schedule.gamma_1, _PARTS + 1)


def _roots(losses: bytes) -> np.ndarray:
    return np.frombuffer(losses or bytes(_PARTS + 1), np.uint8) / _WHOLE


@functools.partial(jax.jit, static_argnums=0)
def _loss(model: Model, parameters: Parameters, levels: Any, gamma: Any, key: Any):
    """The mean of ‖ε − ε̂‖²/N over images, in one draw of ε."""
    x = model.pixels.encode(levels)
    gamma = jnp.full(len(levels), gamma)
    noise = jax.random.normal(key, x.shape)
    z = model.noised(x, gamma, noise)
    output = model.predict(parameters, z, gamma, jnp.zeros_like(gamma))
    error = squared_norm(noise - model.noise(output, z, gamma))
    return jnp.mean(error) / model.pixels.dimensions
