"""The multistep form of DPM-Solver++, of order 2: exponential, one evaluation a step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.errors import UserError
from diffusion_ode.solvers.arrays import Mask, PerLane, State, expand
from diffusion_ode.solvers.integrator import Integrator
from diffusion_ode.solvers.step_controller import StepController
from diffusion_ode.solvers.vector_field import SemilinearField, VectorField
from diffusion_ode.solvers.whole_step import AugmentedState, FieldOfStep, Step, WholeStepMethod


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Before:
    """What was known at the start of the step before.

    Attributes:
      x: the field's non-linear part. [lanes, *shape]
      rate: d ell/dλ but for its linear part. [lanes]
      log_clock: λ. [lanes]
      exists: whether there was such a step. [lanes]
    """

    x: State
    rate: PerLane
    log_clock: PerLane
    exists: Mask


@dataclass(frozen=True)
class DpmSolverPlusPlus(WholeStepMethod):
    """Solves the linear part exactly and extrapolates the other in λ = log τ: DPM-Solver++(2M).

    For a SemilinearField d(z/a)/dτ = x, with h = λ_{n+1} − λ_n and r = (λ_n − λ_{n−1}) / h:
      D = x_n + (x_n − x_{n−1}) / 2r  (the first step takes x_n),
      z_{n+1} = (a_{n+1}/a_n) z_n − a_{n+1} τ_{n+1} (e^{−h} − 1) D.
    For diffusion, a = σ, τ = α/σ and x is the data's prediction x̂. The log-density's linear part is
    exact too; the rest, a τ tr ∂x/∂z per unit of λ, is extrapolated from the same two times.

    Steps should be of like length in λ: integrate along γ = −2λ. It may go in either direction;
    from data to noise it needs |h| < log 3 (errors grow otherwise).

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    name = "DPM-Solver++ (2M)"
    convergence_order = 2

    def integrator(
        self,
        vector_field: VectorField,
        controller: StepController,
        sharding: jax.sharding.Sharding | None = None,
    ) -> Integrator:
        if not isinstance(vector_field, SemilinearField):
            raise UserError(
                f"{self.name} needs a vector field whose linear part is known, which"
                f" {type(vector_field).__name__} is not: give it the methods of SemilinearField, or"
                " take another solver, such as Adams()."
            )
        return super().integrator(vector_field, controller, sharding)

    def fresh_memory(self, z: State) -> Before:
        nothing = jnp.zeros(z.shape[:1], z.dtype)
        return Before(jnp.zeros_like(z), nothing, nothing, jnp.zeros(z.shape[:1], bool))

    def step(
        self,
        field: FieldOfStep,
        s: PerLane,
        s_next: PerLane,
        state: AugmentedState,
        memory: Before,
    ) -> Step:
        form: SemilinearField = field.vector_field
        log_scale, log_scale_next = form.log_scale(s), form.log_scale(s_next)
        log_clock, log_clock_next = form.log_clock(s), form.log_clock(s_next)
        growth, h = log_scale_next - log_scale, log_clock_next - log_clock
        x, trace = field.nonlinear(s, state)
        rate = jnp.zeros_like(h) if trace is None else jnp.exp(log_scale + log_clock) * trace

        passed = jnp.where(memory.exists, log_clock - memory.log_clock, 1)
        weight = jnp.where(memory.exists, h / (2 * passed), 0)
        middle = x + expand(weight, x.ndim) * (x - memory.x)
        middle_rate = rate + weight * (rate - memory.rate)

        gain = -jnp.exp(log_scale_next + log_clock_next) * jnp.expm1(-h)
        z = expand(jnp.exp(growth), x.ndim) * state.z + expand(gain, x.ndim) * middle
        dimensions = x.size // x.shape[0]
        ell = state.ell if trace is None else state.ell + growth * dimensions + h * middle_rate
        known = Before(x, rate, log_clock, jnp.ones_like(memory.exists))
        return Step(AugmentedState(z, ell), known)
