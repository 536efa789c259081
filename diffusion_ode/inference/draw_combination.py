"""How several dequantised draws of an image become one bound on its log-likelihood."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from diffusion_ode.checking import check
from diffusion_ode.diffusion.dequantization import Dequantization
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Count


@runtime_checkable
class DrawCombination(Protocol):
    """From the log-weights w_i = log p0(z_i) − log q_i of K draws to a bound on log P(k), nats."""

    exponentiates: ClassVar[bool]
    """Whether it relies on E[exp w] ≤ P(k), rather than on E[w] ≤ log P(k) alone."""

    def __call__(self, log_weights: np.ndarray) -> float: ...


@dataclass(frozen=True)
class ImportanceWeighted:
    """Log of the mean weight, logsumexp_i w_i − log K: in expectation it does not fall with K.

    Source: Burda et al. 2015, arXiv:1509.00519, equation 8 and theorem 1.
    """

    exponentiates: ClassVar[bool] = True

    def __call__(self, log_weights):
        return float(np.logaddexp.reduce(log_weights) - np.log(len(log_weights)))


@dataclass(frozen=True)
class AveragedDraws:
    """The mean of w_i: the bound of a single draw, with a K-th of its variance."""

    exponentiates: ClassVar[bool] = False

    def __call__(self, log_weights):
        return float(np.mean(log_weights))


def check_draws(
    dequantization: Dequantization, combination: DrawCombination, num_importance: int
) -> None:
    """Refuses numbers and kinds of draws of which no bound could be made."""
    check("num_importance", num_importance, Count)
    weighted = num_importance > 1 and combination.exponentiates
    if weighted and dequantization.closed_form_entropy:
        raise UserError(
            f"closed_form_entropy = True does not go with num_importance = {num_importance}, since"
            " only sampled weights average to a probability: set it to False, or combine the draws"
            " by AveragedDraws()."
        )
