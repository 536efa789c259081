"""The score of Song et al. 2020, arXiv:2011.13456, as what the network predicts."""

from dataclasses import dataclass

import fiddle as fdl
import jax.numpy as jnp

from experiments.registry import experiment


@dataclass(frozen=True)
class ScorePrediction:
    """output = −ε/σ, the gradient of the log-density of z given x."""

    def target(self, path, gamma, x, noise):
        return -noise / path.sigma(gamma)

    def gain(self, path, gamma):
        return -path.sigma(gamma)

    def skip(self, path, gamma):
        return jnp.zeros_like(gamma)

    def trace_offset(self, path, gamma):
        return -1.0 / path.sigma(gamma)

    def drift_skip(self, path, gamma):
        return path.log_alpha_derivative(gamma)


@experiment(parent="digits_vp")
def digits_score(config: fdl.Config) -> fdl.Config:
    """Scores are large where there is little noise, and are learnt worse than velocities."""
    config.model.parameterization = fdl.Config(ScorePrediction)
    return config
