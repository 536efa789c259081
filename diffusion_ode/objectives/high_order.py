"""Second and third order of the score along one direction, each with a bounded error."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.model import along_images, squared_norm
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.trace_residual import Identity, Residual
from diffusion_ode.ranges import NonNegative
from diffusion_ode.typing import Images


class Orders(NamedTuple):
    """The network's output, and how far its derivatives along v are from what its error implies.

    Attributes:
      output: of the network.
      second: σJv − kv + a(v·e)e.
      third: σ²∇(vᵀJv) + a²(v·e)²e − a[(k‖v‖² − σvᵀJv)e + 2(v·e)(kv − σJv)].
    """

    output: Images
    second: Images
    third: Images


@dataclass(frozen=True)
class HighOrderDirectional:
    """In the place of R²: trace · (v·r)² + frobenius · ‖r‖² + third_order · ‖t‖²/N.

    With J = ∂output/∂z, e = output − target and the coefficients of `Identity`,
    r = σJv − kv + a(v·e)e and t = σ²∇(vᵀJv) + a²(v·e)²e − a[(k‖v‖² − σvᵀJv)e + 2(v·e)(kv − σJv)].
    At the optimum both are zero in expectation given z: minus the score's derivatives are
    (I − Cov[ε|z])/σ² and the third cumulant of ε over σ³. For noise prediction (a = k = 1) they are
    the published terms; for other targets the same ones, divided by a. What stands for a lower
    order in the term of a higher one carries no gradient, so that its error is bounded by theirs.

    Args:
      trace, frobenius, third_order: weights; the last costs a pass backwards in each step.

    Source: Lu et al. 2022, arXiv:2206.08265, equations 11 to 16 and their released `losses.py`.
    """

    traced: ClassVar = ("trace", "frobenius")
    trace: NonNegative = 1.0
    frobenius: NonNegative = 1.0
    third_order: NonNegative = 0.0

    def __post_init__(self):
        check_fields(self)
        if not (self.trace or self.frobenius or self.third_order):
            raise UserError(
                "trace = frobenius = third_order = 0 leave nothing of the higher orders: give one"
                " of them a weight above 0, or train.objective=flow_matching()."
            )
        if self.third_order and not self.frobenius:
            raise UserError(
                f"third_order = {self.third_order} with frobenius = 0: the trace by a single probe"
                " does not bound the third order's error, so give frobenius a weight above 0."
            )

    def draw_probes(self, key, shape):
        return (jax.random.rademacher(key, shape, jnp.float32),)

    def estimate(self, network, z, target, identity, probes):
        found = orders(network, z, target, identity, probes[0], third=self.third_order > 0.0)
        along = jnp.sum(probes[0] * found.second, axis=(1, 2, 3))
        squared = self.trace * jnp.square(along) + self.frobenius * squared_norm(found.second)
        if self.third_order:
            squared += self.third_order / z[0].size * squared_norm(found.third)
        return Residual(found.output, squared)


def orders(network, z: Images, target: Images, identity: Identity, v: Images, *, third=True):
    """The residuals along a direction; without the third order its place holds zeros."""
    sigma, offset, gain = identity

    def quadratic(z):
        output, along = jax.jvp(network, (z,), (v,))
        return jnp.sum(v * along), (output, along)

    if third:
        curvature, (output, along) = jax.grad(quadratic, has_aux=True)(z)
    else:
        curvature, (output, along) = jnp.zeros_like(z), quadratic(z)[1]

    error = jax.lax.stop_gradient(output - target)
    projected = _inner(v, error)
    second = sigma * along - offset * v + gain * projected * error
    known = jax.lax.stop_gradient(offset * v - sigma * along)
    implied = _inner(v, known) * error + 2.0 * projected * known - gain * projected**2 * error
    return Orders(output, second, sigma**2 * curvature - gain * implied)


def _inner(a: Images, b: Images) -> Images:
    return along_images(jnp.sum(a * b, axis=(1, 2, 3)))
