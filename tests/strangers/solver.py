"""A method of two stages, after Ralston 1962, "Runge–Kutta methods with minimum error bounds"."""

from dataclasses import dataclass

import fiddle as fdl

from diffusion_ode.solvers.whole_step import Step, WholeStepMethod
from experiments.registry import experiment


@dataclass(frozen=True)
class TwoStages(WholeStepMethod):
    """Order 2 with the second slope at any share of the step: 2/3 is Ralston's, 1/2 the midpoint.

    Attributes:
      share: of the step.
    """

    share: float = 2 / 3
    name = "two stages"
    convergence_order = 2

    def step(self, field, s, s_next, state, memory):
        h, weight = s_next - s, 0.5 / self.share
        first = field(s, state)
        second = field(s + self.share * h, state + self.share * h * first)
        return Step(state + h * ((1 - weight) * first + weight * second))


@experiment(parent="digits_vp")
def digits_two_stages(config: fdl.Config) -> fdl.Config:
    """Likelihoods and samples by a method of one's own."""
    config.evaluate.ode.solver = fdl.Config(TwoStages)
    config.sample.sampler.solver = fdl.Config(TwoStages)
    return config
