"""What an error at γ counts in the loss."""

import abc
import math
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.parameterization import NoisePrediction, Parameterization
from diffusion_ode.diffusion.path import Path
from diffusion_ode.diffusion.schedule import NoiseSchedule
from diffusion_ode.ranges import Gamma, Positive
from diffusion_ode.typing import PerImage


class Weighting(abc.ABC):
    """A w(γ) ≥ 0 in the loss ½∫ w(γ) E‖ε − ε̂‖² dγ, whatever times are drawn: they divide by p(γ).

    Only w = 1 makes the loss the diffusion term of the variational bound. A w that does not
    decrease with γ makes it a mixture of bounds of noised data.

    Source: Kingma and Gao 2023, arXiv:2303.00848, section 3 and table 1 (there λ = −γ).
    """

    is_bound: ClassVar[bool] = False
    """Whether w = 1."""

    @abc.abstractmethod
    def weight(self, path: Path, schedule: NoiseSchedule, gamma: PerImage) -> PerImage:
        """The weight w(γ)."""


@dataclass(frozen=True)
class LikelihoodWeighting(Weighting):
    """The likelihood's: w = 1."""

    is_bound: ClassVar[bool] = True

    def weight(self, path, schedule, gamma):
        return jnp.ones_like(gamma)


@dataclass(frozen=True)
class UnweightedError(Weighting):
    """The plain mean E‖output − target‖² over times uniform in t: w(γ) = 2/(a²(γ) γ′(t)).

    With ε = a · output + b · z. On the cosine schedule of the variance-preserving path it is
    w ∝ sech(γ/2) for the noise, and w ∝ e^{γ/2} for the velocity, as on a straight path with t = σ.

    Args:
      of: whose output and target they are; the network's own may be another.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 14; Lipman et al. 2022, arXiv:2210.02747,
    equation 23.
    """

    of: Parameterization = field(default_factory=NoisePrediction)

    __post_init__ = check_fields

    def weight(self, path, schedule, gamma):
        gain = self.of.gain(path, gamma)
        return 2.0 / (jnp.square(gain) * schedule.derivative(schedule.time(gamma)))


@dataclass(frozen=True)
class SigmoidWeighting(Weighting):
    """Sigmoid: w = sig(γ + b), which spares the details that noise below γ = −b hides.

    Source: Kingma and Gao 2023, arXiv:2303.00848, section 5.
    """

    bias: Gamma = 2.0

    __post_init__ = check_fields

    def weight(self, path, schedule, gamma):
        return jax.nn.sigmoid(gamma + self.bias)


@dataclass(frozen=True)
class EdmWeighting(Weighting):
    """EDM's: w = 2 N(γ; 2m, (2s)²)(e^γ + σ_d²)/σ_d².

    Args:
      log_sigma_mean, log_sigma_deviation: m and s of the times, log(σ/α) ~ N(m, s²).
      data_deviation: σ_d, the data's.

    Source: Karras et al. 2022, arXiv:2206.00364, section 5 and table 1.
    """

    log_sigma_mean: Gamma = -1.2
    log_sigma_deviation: Positive = 1.2
    data_deviation: Positive = 0.5

    __post_init__ = check_fields

    def weight(self, path, schedule, gamma):
        from_mean = (0.5 * gamma - self.log_sigma_mean) / self.log_sigma_deviation
        density = jnp.exp(-0.5 * jnp.square(from_mean)) / (
            2.0 * self.log_sigma_deviation * math.sqrt(2.0 * math.pi)
        )
        return 2.0 * density * (jnp.exp(gamma) / self.data_deviation**2 + 1.0)


@dataclass(frozen=True)
class MinSnrWeighting(Weighting):
    """Min-SNR: the plain mean of min(SNR, k)‖x − x̂‖² over times uniform in t.

    Hence w(γ) = 2 min(1, k e^γ)/γ′(t).

    Args:
      most: k.

    Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """

    most: Positive = 5.0

    __post_init__ = check_fields

    def weight(self, path, schedule, gamma):
        rate = schedule.derivative(schedule.time(gamma))
        return 2.0 * jnp.minimum(1.0, self.most * jnp.exp(gamma)) / rate


_GRID = 256  # values between γ0 and γ, the last of them at γ itself


@dataclass(frozen=True)
class MonotoneWeighting(Weighting):
    """Another weighting made monotone: w(γ) = max w′ over [γ0, γ], so that it never falls again.

    Args:
      of: w′.

    Source: Kingma and Gao 2023, arXiv:2303.00848, section 5 ("EDM-monotonic").
    """

    of: Weighting = field(default_factory=EdmWeighting)

    def weight(self, path, schedule, gamma):
        share = jnp.linspace(0.0, 1.0, _GRID).reshape(-1, *(1,) * jnp.ndim(gamma))
        at = schedule.gamma_0 + (gamma[None] - schedule.gamma_0) * share
        return jnp.max(self.of.weight(path, schedule, at), axis=0)
