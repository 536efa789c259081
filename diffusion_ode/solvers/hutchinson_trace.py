"""Hutchinson's estimate of a trace."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Count
from diffusion_ode.solvers.arrays import PerLane, State
from diffusion_ode.solvers.divergence import Field, ValueAndTrace, inner
from diffusion_ode.solvers.probes import ProbeDistribution, Rademacher

_RADEMACHER = Rademacher()
# Of a segment: equal steps do not end where segments do, where rounding would choose the probe.
_OFFSET = 0.382


@dataclass(frozen=True)
class HutchinsonTrace:
    """The mean of v'Jv over `probes` vectors v with E[v v'] = I: unbiased.

    Its variance falls as 1/probes, faster with Orthogonal() ones.
    Hutchinson 1990; for densities by ODE: Grathwohl et al. 2018, arXiv:1810.01367, eq. 7.

    Along a solve the error of one probe keeps its sign for long. With new ones in each of several
    segments the errors average out, at no cost but their drawing, and the integral stays unbiased,
    since neither z nor the steps depend on them (docs/mathematics.md, section 7).

    The probe of one example is an array [probes, *shape], or the key from which each segment's is
    drawn.

    Args:
      probes: at a time.
      distribution: of each.
      segments: of the way, of equal length in γ but for the first and the last, each with probes of
        its own, and no step is judged by them; 1: the same are held from end to end.
    """

    probes: Count = 1
    distribution: ProbeDistribution = _RADEMACHER
    segments: Count = 1

    __post_init__ = check_fields

    @property
    def exact(self) -> bool:
        return False

    @property
    def renews(self) -> bool:
        return self.segments > 1

    @property
    def in_words(self) -> str:
        number = "1 probe" if self.probes == 1 else f"{self.probes} probes"
        return f"{number}, renewed" if self.renews else number

    def held(self) -> "HutchinsonTrace":
        return dataclasses.replace(self, segments=1)

    def draw_probe(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.bits(key, (2,), jnp.uint32) if self.renews else self._draw(key, shape)

    def probe_at(self, probe: jax.Array, share: PerLane, shape: tuple[int, ...]) -> jax.Array:
        segment = jnp.floor(jnp.maximum(share, 0) * self.segments + _OFFSET).astype(jnp.uint32)
        # Of this kind, whose draws for one example do not depend on the others, whatever kind the
        # program's keys are of.
        keys = jax.random.wrap_key_data(probe, impl="threefry2x32")
        keys = jax.vmap(jax.random.fold_in)(keys, segment)
        return jax.vmap(lambda key: self._draw(key, shape))(keys)

    def _draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.distribution.draw(key, self.probes, shape)

    def __call__(self, f: Field, z: State, probe: jax.Array) -> ValueAndTrace:
        if jnp.issubdtype(probe.dtype, jnp.unsignedinteger):
            raise UserError(
                f"HutchinsonTrace(segments={self.segments}) was given what its probes are drawn"
                " from: give it probe_at(probe, share, shape), or take HutchinsonTrace()."
            )
        probe = probe.astype(z.dtype)
        if self.probes == 1:
            direction = probe[:, 0]
            value, product = jax.jvp(f, (z,), (direction,))
            return ValueAndTrace(value, inner(direction, product))
        # One value, many products.
        value, tangent = jax.linearize(f, z)
        product = jax.vmap(tangent, in_axes=1, out_axes=1)(probe)
        return ValueAndTrace(value, inner(probe, product) / jnp.asarray(self.probes, z.dtype))
