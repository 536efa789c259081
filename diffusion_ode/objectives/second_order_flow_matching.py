"""Flow matching with a bound on the error of the divergence."""

from dataclasses import dataclass, field

import jax

from diffusion_ode.checking import check_finite
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.flow_matching import diffusion_weight, draw_flow
from diffusion_ode.objectives.objective import LossTerms
from diffusion_ode.objectives.trace_residual import Identity, IndependentProbes, TraceResidual
from diffusion_ode.process.model import along_images, squared_norm
from diffusion_ode.process.time_sampling import ImportanceSampledTimes, TimeSampler


@dataclass(frozen=True)
class SecondOrderFlowMatching:
    """First-order loss + λ · (½a²/p) · R²/N per image, for fine-tuning.

    At the optimum σ tr J* = kN − a E‖output − output*‖² (VP velocity: k = a = α; SP: k = 1/√2,
    a = √2 α). R is the difference of both sides with this batch's error in place of the
    expectation, N the number of dimensions.

    Args:
      times: how γ is drawn.
      weight: λ.
      residual: how R² is estimated; this decides what is learned. `SingleProbe` is published, but
        also presses off-diagonal entries of the Jacobian towards zero.

    Source: Zheng et al. 2023, arXiv:2305.03935, theorem 3.3 and appendix D.
    """

    times: TimeSampler = field(default_factory=ImportanceSampledTimes)
    weight: float = 0.1
    residual: TraceResidual = field(default_factory=IndependentProbes)

    def __post_init__(self):
        check_finite("weight", self.weight)
        if not self.weight >= 0.0:
            raise UserError(
                f"weight = {self.weight} is negative, but it weighs a square: give 0 or more."
            )

    def draw(self, model, images, key, times_state):
        flow_key, probe_key = jax.random.split(key)
        probes = self.residual.draw_probes(probe_key, images.shape)
        return draw_flow(model, images, flow_key, times_state, self.times, probes)

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        x = model.pixels.encode(images)
        z = model.noised(x, draws.gamma, draws.noise)
        target = model.target(x, draws.gamma, draws.noise)

        def network(noised):
            return model.predict(parameters, noised, draws.gamma, flag, dropout_key)

        gamma = along_images(draws.gamma)
        identity = Identity(
            sigma=model.path.sigma(gamma),
            offset=model.parameterization.trace_offset(model.path, gamma),
            gain=model.parameterization.gain(model.path, gamma),
        )
        residual = self.residual.estimate(network, z, target, identity, draws.probes)
        weight = diffusion_weight(model, draws)
        diffusion = weight * squared_norm(residual.output - target)
        second = weight * residual.squared / model.pixels.dimensions
        return LossTerms(
            diffusion + self.weight * second, {"diffusion": diffusion, "second_order": second}
        )
