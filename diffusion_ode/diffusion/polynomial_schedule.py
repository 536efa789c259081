"""A schedule for every pixel, learned by the bound."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from diffusion_ode.diffusion.learned_schedule import LearnedSchedule, TrainedSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.typing import Parameters


@dataclass(frozen=True)
class PolynomialSchedule(LearnedSchedule):
    """Learned for each pixel i and channel: γ_i = γ0 + (γ1 − γ0) f_i(t)/f_i(1), f_i(0) = 0.

    With f_i′ = (at² + bt + c)², and t where the common γ = γ0 + (γ1 − γ0) t stands between the
    ends, which all pixels share. The bound is ½∫ Σ_i (dγ_i/dγ)(ε_i − ε̂_i)² dγ. It depends on how
    the pixels go from end to end, unless all go together or the network is some density's denoiser:
    so a, b and c are learned by it, not by its variance. They begin as the linear schedule. The
    network is told t, and as noise the common γ's.

    It is MuLAN's form without the latent that it is conditioned on there.

    Source: Sahoo et al. 2023, arXiv:2312.13236, section 3.
    """

    has_shape: ClassVar[bool] = False
    by_pixel: ClassVar[bool] = True

    def init(self, key, image=(1, 1, 1)):
        start = {"a": jnp.zeros, "b": jnp.zeros, "c": jnp.ones}
        coefficients = {name: fill(image) for name, fill in start.items()}
        return {**super().init(key), "shape": coefficients}

    def init_shape(self, key):
        return {}

    def growth(self, shape, time):
        return time

    def check(self, objective: Any) -> None:
        super().check(objective)
        if not getattr(objective, "takes_pixels", False):
            raise UserError(
                "model.schedule = PolynomialSchedule gives each pixel its own γ, and"
                f" train.objective = {type(objective).__name__} weighs whole images: give"
                " train.objective=flow_matching(), or learned_monotone_schedule()."
            )

    def of(self, parameters: Parameters) -> "TrainedPolynomialSchedule":
        return TrainedPolynomialSchedule(**vars(super().of(parameters)))


@dataclass(frozen=True, eq=False)
class TrainedPolynomialSchedule(TrainedSchedule):
    """A `PolynomialSchedule` as some parameters have it."""

    by_pixel: ClassVar[bool] = True

    def at_pixels(self, gamma):
        time = self.time(super().at_pixels(gamma))
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * self._grown(time) / self._grown(1.0)

    def pixel_rate(self, gamma):
        return self._rate(self.time(super().at_pixels(gamma))) / self._grown(1.0)

    def pixel_change(self, gamma, change):
        """By Gauss and Legendre's rule of three nodes, which integrates f′ exactly."""
        nodes, weights = np.polynomial.legendre.leggauss(3)
        gamma, change = super().at_pixels(gamma), super().at_pixels(change)
        rates = [self.pixel_rate(gamma - 0.5 * (1.0 - node) * change) for node in nodes]
        return change * sum(0.5 * w * rate for w, rate in zip(weights, rates, strict=True))

    def time(self, gamma):
        return (gamma - self.gamma_0) / (self.gamma_1 - self.gamma_0)

    def _rate(self, time):
        a, b, c = (self.shape[name] for name in "abc")
        return jnp.square((a * time + b) * time + c)

    def _grown(self, time):
        """f(t), with f(0) = 0."""
        a, b, c = (self.shape[name] for name in "abc")
        coefficients = (a * a / 5.0, a * b / 2.0, (b * b + 2.0 * a * c) / 3.0, b * c, c * c)
        value = 0.0
        for coefficient in coefficients:
            value = (value + coefficient) * time
        return value
