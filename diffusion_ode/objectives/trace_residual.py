"""How far the network's divergence is from what its own first-order error implies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.model import squared_norm
from diffusion_ode.ranges import Count
from diffusion_ode.typing import Array, Images, Key, PerImage


class Identity(NamedTuple):
    """The coefficients, [b, 1, 1, 1], of `σ tr J* = kN − a E‖output − output*‖²`."""

    sigma: Array
    offset: Array  # k
    gain: Array  # a


class Residual(NamedTuple):
    """The network's output, and an estimate of the squared residual per image."""

    output: Images
    squared: PerImage


@runtime_checkable
class TraceResidual(Protocol):
    """An estimator of R², R = σ tr J − (kN − a‖e‖²), with J = ∂output/∂z and e = output − target.

    e is taken from the same batch and carries no gradient. Each estimator evaluates the network and
    its derivative along a probe in one forward-mode pass; one that draws no probes goes through all
    dimensions.
    """

    def draw_probes(self, key: Key, shape: tuple[int, ...]) -> tuple[Images, ...]: ...

    def estimate(
        self,
        network: Callable[[Images], Images],
        z: Images,
        target: Images,
        identity: Identity,
        probes: tuple[Images, ...],
    ) -> Residual: ...


@dataclass(frozen=True)
class SingleProbe:
    """The square R(v)² with one Rademacher probe v: as published.

    E_v R(v)² = R² + σ² Var(vᵀJv), so it also presses the off-diagonal part of J towards zero.
    No third order goes with it: the error of that is bounded by the second order's as a vector,
    which `HighOrderDirectional` has and the trace along a probe is not.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 3.4 and appendix D.
    """

    def draw_probes(self, key, shape):
        return (jax.random.rademacher(key, shape, jnp.float32),)

    def estimate(self, network, z, target, identity, probes):
        output, along = jax.jvp(network, (z,), probes)
        trace = _inner(probes[0], along)
        return Residual(output, squared_residual(trace, output, target, identity))


@dataclass(frozen=True)
class IndependentProbes:
    """The product R(v) R(v′) of two independent Rademacher probes: R² without bias, at times < 0.

    E[R(v) R(v′)] = E[R(v)] E[R(v′)] = R², as v and v′ are independent given the batch.
    """

    def draw_probes(self, key, shape):
        first, second = jax.random.split(key)
        return (
            jax.random.rademacher(first, shape, jnp.float32),
            jax.random.rademacher(second, shape, jnp.float32),
        )

    def estimate(self, network, z, target, identity, probes):
        # Both passes share the primal computation: XLA merges what is common to them.
        output, first = jax.jvp(network, (z,), (probes[0],))
        _, second = jax.jvp(network, (z,), (probes[1],))
        one, other = (
            _residual(_inner(v, along), output, target, identity)
            for v, along in zip(probes, (first, second), strict=True)
        )
        return Residual(output, one * other)


@dataclass(frozen=True)
class Directional:
    """The square of R(v) = σ vᵀJv − k‖v‖² + a (v·e)²: the identity along each direction.

    Its minimiser is right for every direction, not only for the trace, at more variance.

    Source: Lu et al. 2022, arXiv:2206.08265, equations 13 and 14.
    """

    def draw_probes(self, key, shape):
        return (jax.random.rademacher(key, shape, jnp.float32),)

    def estimate(self, network, z, target, identity, probes):
        (v,) = probes
        output, along = jax.jvp(network, (z,), (v,))
        error = jax.lax.stop_gradient(output - target)
        residual = (
            _per_image(identity.sigma) * _inner(v, along)
            - _per_image(identity.offset) * squared_norm(v)
            + _per_image(identity.gain) * jnp.square(_inner(v, error))
        )
        return Residual(output, jnp.square(residual))


@dataclass(frozen=True)
class ExactTraceResidual:
    """The square R² with the exact trace, by N directions, `chunk` at a time: for small images."""

    chunk: Count = 16

    __post_init__ = check_fields

    def draw_probes(self, key, shape):
        del key, shape
        return ()

    def estimate(self, network, z, target, identity, probes):
        del probes
        dimensions = z[0].size

        def diagonal(index):
            direction = jnp.zeros(dimensions).at[index].set(1.0).reshape(1, *z.shape[1:])
            direction = jnp.broadcast_to(direction, z.shape)
            return _inner(direction, jax.jvp(network, (z,), (direction,))[1])

        trace = jax.lax.map(diagonal, jnp.arange(dimensions), batch_size=self.chunk).sum(axis=0)
        output = network(z)
        return Residual(output, squared_residual(trace, output, target, identity))


def squared_residual(trace, output, target, identity: Identity) -> PerImage:
    """The square R² from an estimate of the trace."""
    return jnp.square(_residual(trace, output, target, identity))


def _residual(trace, output, target, identity: Identity) -> PerImage:
    error = jax.lax.stop_gradient(output - target)
    implied = _per_image(identity.offset) * output[0].size - _per_image(
        identity.gain
    ) * squared_norm(error)
    return _per_image(identity.sigma) * trace - implied


def _inner(a: Images, b: Images) -> PerImage:
    return jnp.sum(a * b, axis=(1, 2, 3))


def _per_image(coefficient: Array) -> PerImage:
    return coefficient.reshape(-1)
