"""Schedules that VDM has learned, as fixed ones: what they are in a published checkpoint."""

import base64
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.diffusion.schedule import LinearSchedule, NoiseSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Gamma

_FEATURES = 1024  # of the published network, which also divides its sum
_NUMBERS = 2 + 3 * _FEATURES


@dataclass(frozen=True)
class LearnedLinearSchedule(LinearSchedule):
    """Linear with learned end points: γ(t) = b + |w| t, with γ0 = b and γ1 = b + |w|.

    Args:
      time_0, time_1: the γ that the network is told as 0 and as 1, whatever was learned.

    Source: Kingma et al. 2021, arXiv:2107.00630, and its program.
    """

    time_0: Gamma = -13.3
    time_1: Gamma = 5.0

    def network_time(self, gamma):
        return (gamma - self.time_0) / (self.time_1 - self.time_0)


@dataclass(frozen=True)
class MonotoneNetworkSchedule(NoiseSchedule):
    """Learned: γ(t) = |w1| t + b1 + |w3|·(2 sig(|w2|·2(t − ½) + b2) − 1)/1024.

    Args:
      numbers: base64 of w1, b1, w2, b2, w3 one after the other, as little-endian float32.
      time_0, time_1: the γ that the network is told as 0 and as 1, whatever was learned.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix H, and its program.
    """

    numbers: str
    time_0: Gamma = -13.3
    time_1: Gamma = 5.0

    def __post_init__(self):
        try:
            count = len(base64.b64decode(self.numbers, validate=True)) / 4
        except ValueError:
            count = 0
        if count != _NUMBERS:
            raise UserError(
                f"numbers of a MonotoneNetworkSchedule are not base64 of {_NUMBERS} float32:"
                " import them with python -m diffusion_ode.tools.import_reference."
            )
        super().__post_init__()

    @property
    def gamma_0(self) -> float:
        return self._end(0.0)

    @property
    def gamma_1(self) -> float:
        return self._end(1.0)

    def _weights(self):
        numbers = np.frombuffer(base64.b64decode(self.numbers), "<f4")
        return numbers[0], numbers[1], *np.split(numbers[2:], 3)

    def _end(self, time: float) -> float:
        w1, b1, w2, b2, w3 = (np.asarray(x, np.float64) for x in self._weights())
        hidden = np.tanh(0.5 * (np.abs(w2) * 2 * (time - 0.5) + b2))  # 2 sig(x) − 1
        return float(np.abs(w1) * time + b1 + np.abs(w3) @ hidden / _FEATURES)

    def gamma(self, time):
        w1, b1, w2, b2, w3 = self._weights()
        time = jnp.asarray(time)
        inner = np.abs(w2) * (2.0 * (time[..., None] - 0.5)) + b2
        hidden = 2.0 * jax.nn.sigmoid(inner) - 1.0
        return np.abs(w1) * time + b1 + jnp.sum(np.abs(w3) * hidden, -1) / _FEATURES

    def network_time(self, gamma):
        return (gamma - self.time_0) / (self.time_1 - self.time_0)
