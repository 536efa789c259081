"""What the published program computes differently, switch by switch, to reproduce its figures."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.dequantization import (
    Start,
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from diffusion_ode.diffusion.end_terms import GaussianEnds
from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.diffusion.prior import StandardPrior
from diffusion_ode.diffusion.variance_exploding import VarianceExploding
from diffusion_ode.errors import UserError
from diffusion_ode.inference.decoding import Decoder
from diffusion_ode.inference.draw_combination import AveragedDraws, ImportanceWeighted
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe
from diffusion_ode.typing import Images, Levels

_PUBLISHED_DRAWS = 5
_PUBLISHED_UNIFORM_START = -11.8


@dataclass(frozen=True)
class ReferenceQuirks:
    """Each switch turns one published computation on; all are off by default.

    Nothing else in the program knows of them: a piece is handed to the method of its kind, which
    returns it, or what stands in for it where a switch is on.

    Args:
      no_log_count: K weighted draws give logsumexp without − log K: log K nats too good.
      decoder_divides_twice: the decoder is given z0/α0 and divides by α0 once more; hardly seen
        for VP, but a sixth of a level at the edges of SP's range.
      unit_prior: the bound's prior is N(0, I), not the N(0, σ1² I) that samples start from.
      single_probe: the second-order residual is squared with one probe.
      unscaled_uniform: uniform dequantisation starts the ODE at γ = −11.8, at x and not α0 x.
      closed_form_average: in the place of one draw, the mean of five with E[−log q] in closed form.

    Source: figures of Zheng et al. 2023, arXiv:2305.03935; remark A.2 for the start at −11.8.
    """

    no_log_count: bool = False
    decoder_divides_twice: bool = False
    unit_prior: bool = False
    single_probe: bool = False
    unscaled_uniform: bool = False
    closed_form_average: bool = False

    __post_init__ = check_fields

    @classmethod
    def all(cls) -> "ReferenceQuirks":
        """Every switch on, as published."""
        return cls(**{field.name: True for field in dataclasses.fields(cls)})

    def likelihood(
        self, likelihood: OdeLikelihood, num_importance: int = 1
    ) -> tuple[OdeLikelihood, int]:
        """The likelihood with these quirks, and the number of draws it then takes."""
        dequantization = likelihood.dequantization
        combination = likelihood.combination
        if self.closed_form_average and num_importance == 1:
            combination, num_importance = AveragedDraws(), _PUBLISHED_DRAWS
            if isinstance(
                dequantization, VariationalDequantization | TruncatedNormalDequantization
            ):
                dequantization = dataclasses.replace(dequantization, closed_form_entropy=True)
        if self.no_log_count and isinstance(combination, ImportanceWeighted):
            combination = SummedWeights()
        if self.unscaled_uniform and isinstance(dequantization, UniformDequantization):
            dequantization = UnscaledUniformDequantization()
        if self.decoder_divides_twice and isinstance(dequantization, VariationalDequantization):
            dequantization = TwiceDividedDequantization(dequantization)
        return (
            dataclasses.replace(likelihood, dequantization=dequantization, combination=combination),
            num_importance,
        )

    def bound(self, bound: VariationalBound) -> VariationalBound:
        if not (self.decoder_divides_twice or self.unit_prior):
            return bound
        ends = PublishedEnds(self.decoder_divides_twice, self.unit_prior)
        return dataclasses.replace(bound, ends=ends)

    def decoder(self, decoder: Decoder) -> Decoder:
        return TwiceDividedDecoder(decoder) if self.decoder_divides_twice else decoder

    def objective(self, objective: SecondOrderFlowMatching) -> SecondOrderFlowMatching:
        if not self.single_probe:
            return objective
        return dataclasses.replace(objective, residual=SingleProbe())


@dataclass(frozen=True)
class SummedWeights:
    """Logsumexp of the log-weights: no bound, as it grows with log K."""

    exponentiates: ClassVar[bool] = True

    def __call__(self, log_weights):
        return float(np.logaddexp.reduce(log_weights))


@dataclass(frozen=True)
class UnscaledUniformDequantization:
    """z = (2(k + u))/V − 1 at γ = −11.8, where α ≈ 1; log P(k) ≈ log p(z) + N log(2/V)."""

    closed_form_entropy: ClassVar[bool] = False

    def gamma(self, model):
        schedule = model.schedule
        if not schedule.gamma_0 <= _PUBLISHED_UNIFORM_START < schedule.gamma_1:
            raise UserError(
                f"unscaled_uniform starts at γ = {_PUBLISHED_UNIFORM_START}, outside the schedule's"
                f" [{schedule.gamma_0}, {schedule.gamma_1}]: it belongs to 256 levels, so turn it"
                " off for others."
            )
        return _PUBLISHED_UNIFORM_START

    def draw(self, model, key):
        return UniformDequantization().draw(model, key)

    def start(self, model, levels, noise):
        pixels = model.pixels
        z = 2.0 * (levels.astype(noise.dtype) + noise) / pixels.levels - 1.0
        constant = pixels.dimensions * np.log(2.0 / pixels.levels)
        return Start(z, jnp.full(levels.shape[0], constant, noise.dtype))


@dataclass(frozen=True)
class TwiceDividedDequantization:
    """Variational dequantisation whose log P(k|z) is taken at z/α0² in place of z/α0."""

    inner: VariationalDequantization

    @property
    def closed_form_entropy(self) -> bool:
        return self.inner.closed_form_entropy

    def gamma(self, model):
        return self.inner.gamma(model)

    def draw(self, model, key):
        return self.inner.draw(model, key)

    def start(self, model, levels, noise):
        start = self.inner.start(model, levels, noise)
        right, published = (
            model.pixels.log_probability(levels, deviation, model.schedule.gamma_0)
            for deviation in (noise, _twice_divided(model, levels, noise))
        )
        return Start(start.z, start.log_weight - right + published)


def _twice_divided(model: Model, levels: Levels, noise: Images) -> Images:
    """Deviation (z0/α0² − x)/s = ε/α0 + x (1/α0 − 1)/s at z0 = α0 x + σ0 ε, with s = e^{γ0/2}."""
    gamma_0 = jnp.asarray(model.schedule.gamma_0, noise.dtype)
    log_alpha = model.path.log_alpha(gamma_0)
    shift = jnp.expm1(-log_alpha) * jnp.exp(-0.5 * gamma_0)
    return noise * jnp.exp(-log_alpha) + model.pixels.encode(levels) * shift


@dataclass(frozen=True)
class PublishedEnds:
    """Reconstruction at z0/α0², and KL to N(0, I): ½(α1²‖x‖² + N(σ1² − log σ1² − 1))."""

    decoder_divides_twice: bool
    unit_prior: bool

    def reconstruction(self, model, levels, noise):
        if not self.decoder_divides_twice:
            return GaussianEnds().reconstruction(model, levels, noise)
        twice = _twice_divided(model, levels, noise)
        return -model.pixels.log_probability(levels, twice, model.schedule.gamma_0)

    def prior(self, model, levels):
        if not self.unit_prior:
            return GaussianEnds().prior(model, levels)
        if not isinstance(model.prior, StandardPrior):
            raise UserError(
                "evaluate.quirks.unit_prior is the N(0, I) of the published bound, and this model"
                " has another prior: give one or the other."
            )
        if isinstance(model.path, VarianceExploding):
            raise UserError(
                "evaluate.quirks.unit_prior is the N(0, I) of the published bound, and a"
                " variance-exploding path ends far from it: leave it out."
            )
        x = model.pixels.encode(levels)
        gamma_1 = jnp.asarray(model.schedule.gamma_1, x.dtype)
        log_variance = 2.0 * model.path.log_sigma(gamma_1)
        spread = jnp.expm1(log_variance) - log_variance
        mean = squared_norm(x) * jnp.square(model.path.alpha(gamma_1))
        return 0.5 * (mean + model.pixels.dimensions * spread)


@dataclass(frozen=True)
class TwiceDividedDecoder:
    """Decodes z0/α0² in place of z0/α0."""

    inner: Decoder

    def __call__(self, model, z, key):
        gamma_0 = jnp.asarray(model.schedule.gamma_0, z.dtype)
        return self.inner(model, z / model.path.alpha(gamma_0), key)
