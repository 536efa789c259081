"""The probability-flow ODE of a model, as a solver wants it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.integration_variable import IntegrationVariable
from diffusion_ode.diffusion.model import Model, along_images
from diffusion_ode.errors import UserError
from diffusion_ode.solvers.divergence import Divergence, renews, with_linear_skip
from diffusion_ode.typing import Array, Images, Parameters, PerImage


@dataclass(frozen=True)
class ProbabilityFlow:
    """The flow dz/ds and, along it, the change of the log-density, in the integration variable s.

    dz/dγ = d(γ) z + ½σ a(γ) · output, where the coefficient d of z vanishes for velocities; its
    share of the divergence, d N, is exact, and so is that of a base. Following the flow from data
    to noise, log p0(z0) = log p1(z1) + ∫ div(dz/ds) ds.

    It is a SemilinearField: with the scale σ and the clock α/σ, d(z/σ) = x̂ d(α/σ).

    Args:
      model: a diffusion ODE.
      variable: s.
      divergence: how the trace is found; None: it is not needed (sampling).

    Source: Song et al. 2020, arXiv:2011.13456, section 4.3 and appendix D; Chen et al. 2018,
    arXiv:1806.07366, theorem 1; for x̂: Lu et al. 2022, arXiv:2211.01095, equation 8.
    """

    model: Model
    variable: IntegrationVariable
    divergence: Divergence | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The values of s at the data end and at the noise end."""
        schedule = self.model.schedule
        return self.position(schedule.gamma_0), self.position(schedule.gamma_1)

    @property
    def rough_trace(self) -> bool:
        """Whether the divergence jumps where its probes are renewed."""
        return renews(self.divergence)

    def position(self, gamma: float) -> float:
        """The value of s at γ."""
        return float(self.variable.value(self.model.path, jnp.asarray(gamma, jnp.float32)))

    def unit(self, s: PerImage) -> PerImage:
        """Gives σ at s: log p_s changes by about ε̂·error/σ, so errors of z matter in this unit."""
        gamma = self.variable.gamma(self.model.path, s)
        if not self.model.schedule.by_pixel:
            return self.model.path.sigma(gamma)
        return jnp.min(
            self.model.path.sigma(self.model.schedule.at_pixels(gamma)), axis=(-3, -2, -1)
        )

    def log_scale(self, s: PerImage) -> PerImage:
        if self.model.schedule.by_pixel:
            raise UserError(
                "The solver wants one noise for all pixels, and the model's schedule gives each its"
                " own: give solver=adams(), or any other that takes dz/ds as it is."
            )
        return self.model.path.log_sigma(self.variable.gamma(self.model.path, s))

    def log_clock(self, s: PerImage) -> PerImage:
        return -0.5 * self.variable.gamma(self.model.path, s)

    def __call__(
        self, parameters: Parameters, s: PerImage, z: Images, probe: Array | None
    ) -> tuple[Images, PerImage | None]:
        """Gives (dz/ds, div dz/ds), each image at its own s."""
        path, parameterization = self.model.path, self.model.parameterization
        gamma = self.variable.gamma(path, s)
        pace, at = self.variable.gamma_derivative(path, gamma), gamma
        if self.model.schedule.by_pixel:
            at = self.model.schedule.at_pixels(gamma)
            pace = along_images(pace) * self.model.schedule.pixel_rate(gamma)
        gain = 0.5 * path.sigma(at) * parameterization.gain(path, at) * pace
        skip = parameterization.drift_skip(path, at) * pace
        return self._affine(parameters, gamma, z, probe, gain, skip)

    def nonlinear(
        self, parameters: Parameters, s: PerImage, z: Images, probe: Array | None
    ) -> tuple[Images, PerImage | None]:
        """The data's prediction x̂ = (z − σε̂)/α and tr ∂x̂/∂z, each image at its own s."""
        path, parameterization = self.model.path, self.model.parameterization
        gamma = self.variable.gamma(path, s)
        share = parameterization.gain(path, gamma) / path.alpha(gamma)
        skip = parameterization.trace_offset(path, gamma) * share  # (1 − σb)/α without cancelling
        return self._affine(parameters, gamma, z, probe, -path.sigma(gamma) * share, skip)

    def _affine(
        self,
        parameters: Parameters,
        gamma: PerImage,
        z: Images,
        probe: Array | None,
        gain: PerImage,
        skip: PerImage,
    ) -> tuple[Images, PerImage | None]:
        """Value of gain · output + skip · z, and its trace."""
        flag = jnp.zeros_like(gamma)  # likelihoods and samples are of images as they are

        def from_output(noised):
            return along_images(gain) * self.model.network_output(parameters, noised, gamma, flag)

        # Exact products everywhere: the error of a likelihood is the solver's, not the hardware's.
        with jax.default_matmul_precision("highest"):
            if self.divergence is None:
                value, trace = from_output(z) + along_images(skip) * z, None
            else:
                probe = self._probe_at(gamma, z, probe)
                both = with_linear_skip(self.divergence, skip, from_output, z, probe)
                value, trace = both.value, both.trace
            if self.model.base is None:
                return value, trace
            known = self.model.base_output(parameters, z, gamma)  # no probe sees it
            value += along_images(gain) * known.value
            return value, None if trace is None else trace + gain * known.trace

    def _probe_at(self, gamma: PerImage, z: Images, probe: Array | None):
        """The probe that is used at γ, of what was drawn for the whole solve."""
        if not renews(self.divergence):
            return probe
        schedule = self.model.schedule
        share = (gamma - schedule.gamma_0) / (schedule.gamma_1 - schedule.gamma_0)
        return self.divergence.probe_at(probe, share, z.shape[1:])
