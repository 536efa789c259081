"""The gradient of a learned schedule, from the backward pass of the network's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.learned_schedule import LearnedSchedule
from diffusion_ode.objectives.objective import Draws, LossTerms
from diffusion_ode.typing import Parameters


def with_times(loss: Callable) -> Callable:
    """The gradient of a mean loss, and per image that by its γ and its density.

    Args:
      loss: (parameters, images, dropout key) → (mean, terms), where images hold their `draws`.

    Returns:
      A function of the same → (gradient, (terms, [b] each of ∂ℒ_i/∂γ_i and ∂ℒ_i/∂p_i)). An image's
      loss depends on no other's time, so that one backward pass gives all of them.
    """

    def at(parameters, times, part, key):
        draws = part["draws"]._replace(gamma=times[0], density=times[1])
        return loss(parameters, {**part, "draws": draws}, key)

    def gradient(parameters, part, key):
        times = part["draws"].gamma, part["draws"].density
        (gradients, by_times), terms = jax.grad(at, argnums=(0, 1), has_aux=True)(
            parameters, times, part, key
        )
        return gradients, (terms, jax.tree.map(lambda g: g * len(times[0]), by_times))

    return gradient


def schedule_gradient(
    schedule: LearnedSchedule,
    draw: Callable[[Parameters], Draws],
    parameters: Parameters,
    of_ends: Any,
    terms: LossTerms,
    by_times: Any,
    dimensions: int,
) -> Any:
    """The gradient by the schedule's parameters η.

    The end points' is that of the mean loss. The shape's is that of E[(L/N)²], by
    d E[L²]/dη = E[2L dL/dη]: the same signals ∂L/∂γ and ∂L/∂p, each times its own 2L.

    Args:
      schedule: of which they are.
      draw: η → draws of the batch.
      parameters: η.
      of_ends: the gradient that reaches η by the reconstruction and prior terms.
      terms, by_times: of `with_times`, in nats and in nats per dimension.
      dimensions: N.
    """
    times, pull = jax.vjp(lambda eta: (draw(eta).gamma, draw(eta).density), parameters)
    mean = jax.tree.map(lambda g: g / len(times[0]), by_times)
    (plain,) = pull(mean)
    if schedule.by_variance and schedule.has_shape:
        twice = 2.0 * terms.loss / dimensions
        (of_square,) = pull(jax.tree.map(lambda g: twice * g, mean))
        plain = {**plain, "shape": of_square["shape"]}
    return jax.tree.map(jnp.add, of_ends, plain)
