"""The divergence of a vector field, exactly or by probes: what the estimators have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import PerLane, State

Field = Callable[[jax.Array], jax.Array]
"""A function f(z [batch, *shape]) -> [batch, *shape], example by example."""
Probe = Any
"""A pytree of arrays; with a leading batch axis when it belongs to a batch."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueAndTrace:
    """Value f(z) [batch, *shape], and the trace of its Jacobian or an estimate of it [batch]."""

    value: State
    trace: PerLane


@runtime_checkable
class Divergence(Protocol):
    """Gives f(z) and tr(df/dz) in one forward-mode pass.

    The probe is drawn apart from its use. One that stays the same through a solve makes the
    estimate a smooth function of time, and steps may be judged by it.
    """

    @property
    def exact(self) -> bool:
        """Whether the trace is the same for every probe, in any number of dimensions."""
        ...

    @property
    def in_words(self) -> str:
        """What it is, as a table of results says it: two or three words."""
        ...

    def draw_probe(self, key: jax.Array, shape: tuple[int, ...]) -> Probe:
        """The probe of one example of that shape (no batch axis); depends on its key alone."""
        ...

    def __call__(self, f: Field, z: State, probe: Probe) -> ValueAndTrace:
        """Value and trace for a batch, given one probe per example (leading batch axis)."""
        ...


@runtime_checkable
class RenewsProbes(Divergence, Protocol):
    """A divergence that may take other probes as a solve goes on.

    Its estimate is then no smooth function of time. No step may depend on it: steps that did would
    choose among its errors, and the integral would be biased.
    """

    @property
    def renews(self) -> bool:
        """Whether it does."""
        ...

    def held(self) -> Divergence:
        """The same with one probe from end to end."""
        ...

    def probe_at(self, probe: Probe, share: PerLane, shape: tuple[int, ...]) -> Probe:
        """A batch's probes of `shape` at a share of the way, 0 to 1 [batch], of those drawn."""
        ...


def renews(divergence: Divergence | None) -> TypeGuard[RenewsProbes]:
    """Whether the probes change in the course of a solve."""
    return isinstance(divergence, RenewsProbes) and divergence.renews


def draw_probes(divergence: Divergence, keys: jax.Array, shape: tuple[int, ...]) -> Probe:
    """One probe for each of the keys [batch]; leading batch axis."""
    return jax.vmap(lambda key: divergence.draw_probe(key, shape))(keys)


def with_linear_skip(
    divergence: Divergence, slope: PerLane | State, g: Field, z: State, probe: Probe
) -> ValueAndTrace:
    """For f(z) = slope·z + g(z): the trace of the linear part without a probe.

    The slope is one for an example, [batch], or one for each of its elements, as z.

    A probe v sees slope·v'v, whose mean is slope·N but which varies if v'v does (Gaussian probes,
    but not Rademacher or orthogonal ones). Also saves its rounding error.
    """
    inner = divergence(g, z, probe)
    if slope.ndim > 1:
        trace = jnp.sum(slope, axis=tuple(range(1, slope.ndim)))
        return ValueAndTrace(inner.value + slope * z, inner.trace + trace)
    dimensions = z.size // z.shape[0]
    return ValueAndTrace(
        inner.value + slope.reshape(-1, *[1] * (z.ndim - 1)) * z, inner.trace + slope * dimensions
    )


def inner(left: State, right: State) -> PerLane:
    """Products of corresponding vectors, summed over all but the batch axis: [batch]."""
    return jnp.sum(left * right, axis=tuple(range(1, left.ndim)))
