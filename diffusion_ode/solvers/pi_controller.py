"""Steps as long as a tolerance allows.

Tolerances are inputs of compiled code: changing them compiles nothing.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Count, NonNegative, Positive, Share, Within
from diffusion_ode.solvers.arrays import (
    Mask,
    PerLane,
    State,
    expand,
    root_mean_square,
    traced_fields,
)
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import SMALLEST_REMEMBERED_ERROR, Decision

# Hairer, Nørsett and Wanner, Solving ODEs I, section II.4: the first step is such that an explicit
# Euler step changes z by a hundredth, and that the error term guessed from f and f' is a hundredth.
_FIRST_STEP_FRACTION = 0.01
_FIRST_STEP_LARGEST_GROWTH = 100.0
# A quotient d0 / d1 of smaller numbers says nothing; then start with this fraction of the span.
_NEGLIGIBLE = 1e-5
_BLIND_FIRST_STEP = 1e-6
# A remainder up to this much longer than the step is taken in one go.
_STRETCH = 1.01


@traced_fields
@dataclass(frozen=True)
class PIController:
    """Steps as long as the tolerances allow, smoothed by the error of the step before.

    The error of a step is the larger of
      the root mean square over z's dimensions of
        err_z / (atol + rtol max(|z|, |z_new|) + unit_tolerance unit(s)), and
      |err_ell| / (dimensions · log_density_tolerance).
    A step is accepted if it is at most 1; the next size is, with k = error_order + 1,
      size · safety · error^(−(1 − 3/4 stabilization)/k) · error_before^(stabilization/k),
    within [factor_min, factor_max], and not longer right after a rejection.
    Gustafsson 1991; Hairer and Wanner, Solving ODEs II, section IV.2 (0.2 is DOPRI5's β = 0.04).

    Attributes:
      rtol: relative tolerance for z, per step.
      atol: absolute tolerance for z, per step.
      log_density_tolerance: absolute tolerance for ell, nats per dimension and step; without effect
        where probes are renewed on the way (`HutchinsonTrace.segments`). Errors of
        steps add up: that of the result is of the order of the steps' number times this.
      unit_tolerance: tolerance for z in units of the length that the vector field says matters at
        s (its method `unit`, s [lanes] → [lanes]; 1 without one), per step.
      max_steps: attempts after which a solve is given up and reported as not converged.
      initial_step: size of the first step; None looks for one, at the cost of one evaluation.
      safety: aims below an error of 1.
      factor_min: smallest factor between a step and the next.
      factor_max: largest one.
      stabilization: 0 forgets the error before.
    """

    rtol: NonNegative = 1e-5
    atol: NonNegative = 1e-5
    log_density_tolerance: Positive = 1e-5
    max_steps: Count = 1000
    initial_step: Positive | None = None
    safety: Annotated[float, Within(0, 1, "(]")] = 0.9
    factor_min: Annotated[float, Within(0, 1, "(]")] = 0.2
    factor_max: Annotated[float, Within(1, 10**6, "(]")] = 10.0
    stabilization: Share = 0.2
    unit_tolerance: NonNegative = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rtol + self.atol + self.unit_tolerance == 0:
            raise UserError(
                "rtol, atol and unit_tolerance are all 0, but every step has some error: make"
                " one of them positive."
            )

    @property
    def max_attempts(self) -> int | jax.Array:
        return self.max_steps

    def tightened(self, factor: float, order: int) -> "PIController":
        """The same with every tolerance multiplied by `factor`, and room for 1/factor the steps."""
        del order  # 1/factor as many are enough for any
        return dataclasses.replace(
            self,
            max_steps=math.ceil(self.max_steps / factor),
            rtol=self.rtol * factor,
            atol=self.atol * factor,
            unit_tolerance=self.unit_tolerance * factor,
            log_density_tolerance=self.log_density_tolerance * factor,
        )

    def check(self, solver: Solver, dtype: jnp.dtype) -> None:
        if not solver.estimates_errors:
            raise UserError(
                f"{solver.name} has no error estimate, which PIController needs: give it "
                "FixedSteps(n), or take a method such as Adams()."
            )
        resolution = float(jnp.finfo(dtype).eps)
        tolerance = self.rtol + self.atol + self.unit_tolerance
        if tolerance < resolution:
            raise UserError(
                f"rtol + atol + unit_tolerance is {tolerance:.1e}, but {dtype} resolves "
                f"{resolution:.1e}: raise a tolerance, or solve in float64."
            )

    def next_time(self, s, size, start, end, accepted):
        del accepted
        remaining = jnp.abs(end - s)
        last = size * _STRETCH >= remaining
        # Two halves rather than a long step and a stub: as many evaluations, less error.
        size = jnp.where(2 * size > remaining, remaining / 2, size)
        return jnp.where(last, end, s + jnp.sign(end - start) * size)

    def error(
        self,
        z: State,
        z_new: State,
        z_error: State,
        z_error_low: State | None,
        ell_error: PerLane,
        ell_error_low: PerLane | None,
        unit: PerLane,
    ) -> PerLane:
        """The step's error in units of the tolerance; not a number where z_new is not."""
        scale = self._scale(jnp.maximum(jnp.abs(z), jnp.abs(z_new)), unit)
        ell_scale = self.log_density_tolerance * (z.size / z.shape[0])
        of_z = root_mean_square(z_error / scale)
        of_ell = jnp.abs(ell_error) / ell_scale
        if z_error_low is not None and ell_error_low is not None:
            of_z = _weighed(of_z, root_mean_square(z_error_low / scale))
            of_ell = _weighed(of_ell, jnp.abs(ell_error_low) / ell_scale)
        return jnp.maximum(of_z, of_ell)

    def decide(
        self,
        error: PerLane,
        remembered_error: PerLane,
        size: PerLane,
        after_rejection: Mask,
        error_order: int | PerLane,
    ) -> Decision:
        """Accepts or rejects a step of that size, and sizes the next attempt."""
        order = error_order + 1.0
        accept = error <= 1  # false for not-a-number
        # An error of zero asks for the longest step, not for infinity.
        safe = jnp.maximum(error, jnp.finfo(error.dtype).tiny)
        factor = self.safety * safe ** (-(1 - 0.75 * self.stabilization) / order)
        factor = factor * remembered_error ** (self.stabilization / order)
        plain = self.safety * safe ** (-1 / order)  # a rejected step has no history to trust
        factor = jnp.where(accept, factor, jnp.minimum(plain, 1.0))
        factor = jnp.where(jnp.isfinite(error), factor, self.factor_min)
        factor = jnp.clip(factor, self.factor_min, self.factor_max)
        factor = jnp.where(after_rejection, jnp.minimum(factor, 1.0), factor)
        return Decision(
            accept=accept,
            size=size * factor,
            remembered_error=jnp.where(
                accept, jnp.maximum(error, SMALLEST_REMEMBERED_ERROR), remembered_error
            ),
        )

    def first_guess(self, z: State, dz: State, span: PerLane, unit: PerLane) -> PerLane:
        """A size [lanes] at which to look once at the derivative before the first step."""
        scale = self._scale(jnp.abs(z), unit)
        value, slope = root_mean_square(z / scale), root_mean_square(dz / scale)
        blind = (value < _NEGLIGIBLE) | (slope < _NEGLIGIBLE)
        guess = _FIRST_STEP_FRACTION * value / jnp.where(blind, 1, slope)
        return jnp.minimum(jnp.where(blind, _BLIND_FIRST_STEP * span, guess), span)

    def first_size(
        self,
        z: State,
        dz: State,
        dz_there: State,
        dell: PerLane,
        dell_there: PerLane,
        guess: PerLane,
        error_order: int,
        unit: PerLane,
    ) -> PerLane:
        """The first step's size [lanes], from the derivatives at the start and `guess` further."""
        scale = self._scale(jnp.abs(z), unit)
        ell_scale = self.log_density_tolerance * (z.size / z.shape[0])
        slope = jnp.maximum(root_mean_square(dz / scale), jnp.abs(dell) / ell_scale)
        bend = jnp.maximum(
            root_mean_square((dz_there - dz) / scale), jnp.abs(dell_there - dell) / ell_scale
        )
        steepest = jnp.maximum(slope, bend / guess)
        flat = steepest <= jnp.finfo(z.dtype).tiny
        wanted = (_FIRST_STEP_FRACTION / jnp.where(flat, 1, steepest)) ** (1 / (error_order + 1))
        return jnp.where(
            flat,
            _FIRST_STEP_LARGEST_GROWTH * guess,
            jnp.minimum(_FIRST_STEP_LARGEST_GROWTH * guess, wanted),
        )

    def _scale(self, size: State, unit: PerLane) -> State:
        """The error of z that counts as 1."""
        return self.atol + self.rtol * size + self.unit_tolerance * expand(unit, size.ndim)


def _weighed(high: PerLane, low: PerLane) -> PerLane:
    """DOP853's combination of its estimates of orders 5 and 3; both in units of the tolerance."""
    nothing = (high == 0) & (low == 0)
    together = jnp.sqrt(jnp.where(nothing, 1, high**2 + 0.01 * low**2))
    return high**2 / together
