"""The probability-flow ODE of a model, as a solver wants it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.integration_variable import IntegrationVariable
from diffusion_ode.diffusion.model import Model, along_images
from diffusion_ode.solvers.divergence import Divergence, with_linear_skip
from diffusion_ode.typing import Array, Images, Parameters, PerImage


@dataclass(frozen=True)
class ProbabilityFlow:
    """dz/ds and, along it, the change of the log-density, in the integration variable s.

    dz/dγ = d(γ) z + ½σ a(γ) · output, where the coefficient d of z vanishes for velocities; its
    share of the divergence, d N, is exact. Following the flow from data to noise,
    log p0(z0) = log p1(z1) + ∫ div(dz/ds) ds.

    Args:
      model: a diffusion ODE.
      variable: s.
      divergence: how the trace is found; None: it is not needed (sampling).

    Source: Song et al. 2020, arXiv:2011.13456, section 4.3 and appendix D; Chen et al. 2018,
    arXiv:1806.07366, theorem 1.
    """

    model: Model
    variable: IntegrationVariable
    divergence: Divergence | None = None

    @property
    def span(self) -> tuple[float, float]:
        """s at the data end and at the noise end."""
        schedule = self.model.schedule
        return self.position(schedule.gamma_0), self.position(schedule.gamma_1)

    def position(self, gamma: float) -> float:
        """The value of s at γ."""
        return float(self.variable.value(self.model.path, jnp.asarray(gamma, jnp.float32)))

    def unit(self, s: PerImage) -> PerImage:
        """σ at s: log p_s changes by about ε̂·error/σ, so errors of z matter in this unit."""
        return self.model.path.sigma(self.variable.gamma(self.model.path, s))

    def __call__(
        self, parameters: Parameters, s: PerImage, z: Images, probe: Array | None
    ) -> tuple[Images, PerImage | None]:
        """(dz/ds, div dz/ds), each image at its own s."""
        model = self.model
        gamma = self.variable.gamma(model.path, s)
        pace = self.variable.gamma_derivative(model.path, gamma)
        gain = 0.5 * model.path.sigma(gamma) * model.parameterization.gain(model.path, gamma) * pace
        skip = model.parameterization.drift_skip(model.path, gamma) * pace
        flag = jnp.zeros_like(s)  # likelihoods and samples are of images as they are

        def from_output(noised):
            return along_images(gain) * model.predict(parameters, noised, gamma, flag)

        # Exact products everywhere: the error of a likelihood is the solver's, not the hardware's.
        with jax.default_matmul_precision("highest"):
            if self.divergence is None:
                return from_output(z) + along_images(skip) * z, None
            both = with_linear_skip(self.divergence, skip, from_output, z, probe)
            return both.value, both.trace
