"""What the network's output means."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_ode.diffusion.path import Path


@runtime_checkable
class Parameterization(Protocol):
    """A target that is affine in the noise: ε = a(γ) · output + b(γ) · z.

    From the gain a, the skip b and the trace offset k = (1 − σb)/a follow the drift, the weight of
    the likelihood and the second-order identity, whatever the target.
    γ must broadcast against the images it comes with.
    """

    def target(
        self,
        path: Path,
        gamma: Float[Array, "..."],
        x: Float[Array, "..."],
        noise: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """What the network should answer for z = αx + σε."""
        ...

    def gain(self, path: Path, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The gain a in ε = a · output + b · z."""
        ...

    def skip(self, path: Path, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The skip b in ε = a · output + b · z."""
        ...

    def trace_offset(self, path: Path, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The offset k in the identity `σ tr ∂output*/∂z = kN − a E‖output − output*‖²`."""
        ...

    def drift_skip(self, path: Path, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """What multiplies z in dz/dγ: d log α/dγ + ½σb, zero where the two cancel exactly."""
        ...


@dataclass(frozen=True)
class NoisePrediction:
    """The network predicts ε: ε̂ = output.

    Source: Ho et al. 2020, arXiv:2006.11239; Kingma et al. 2021, arXiv:2107.00630.
    """

    def target(self, path, gamma, x, noise):
        del path, gamma, x
        return noise

    def gain(self, path, gamma):
        del path
        return jnp.ones_like(gamma)

    def skip(self, path, gamma):
        del path
        return jnp.zeros_like(gamma)

    def trace_offset(self, path, gamma):
        del path
        return jnp.ones_like(gamma)

    def drift_skip(self, path, gamma):
        return path.log_alpha_derivative(gamma)


@dataclass(frozen=True)
class VelocityPrediction:
    """The network predicts the path's velocity F: ε̂ = cαF + s z.

    The terms in z of the drift cancel exactly: dz/dγ = ½cασF.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 3.2.
    """

    def target(self, path, gamma, x, noise):
        return path.velocity(gamma, x, noise)

    def gain(self, path, gamma):
        return path.velocity_gain * path.alpha(gamma)

    def skip(self, path, gamma):
        return path.velocity_skip(gamma)

    def trace_offset(self, path, gamma):
        return path.velocity_trace_offset(gamma)

    def drift_skip(self, path, gamma):
        del path
        return jnp.zeros_like(gamma)


@dataclass(frozen=True)
class DataPrediction:
    """The network predicts x (a denoiser): ε̂ = (z − α output)/σ.

    Source: Karras et al. 2022, arXiv:2206.00364, section 3 (there as D(x; σ)).
    """

    def target(self, path, gamma, x, noise):
        del path, gamma, noise
        return x

    def gain(self, path, gamma):
        return -jnp.exp(path.log_alpha(gamma) - path.log_sigma(gamma))

    def skip(self, path, gamma):
        return jnp.exp(-path.log_sigma(gamma))

    def trace_offset(self, path, gamma):
        del path
        return jnp.zeros_like(gamma)

    def drift_skip(self, path, gamma):
        return path.log_sigma_derivative(gamma)
