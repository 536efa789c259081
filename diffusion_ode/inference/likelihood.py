"""The likelihood of images by solving the probability-flow ODE, image by image."""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.inference.draw_combination import (
    DrawCombination,
    ImportanceWeighted,
    check_draws,
)
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.process.dequantization import Dequantization, TruncatedNormalDequantization
from diffusion_ode.process.integration_variable import IntegrationVariable, NaturalVariable
from diffusion_ode.process.model import Model
from diffusion_ode.solvers.control import PIController, StepController
from diffusion_ode.solvers.divergence import Divergence, draw_probes
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.lanes import Item, solve_lanes
from diffusion_ode.solvers.tableau import Solver
from diffusion_ode.typing import Key, Levels, Parameters


class ImageLikelihood(NamedTuple):
    """One image's result.

    Attributes:
      index: its position in the split.
      log_likelihood: a lower bound on log P(k) in expectation, nats.
      nfe: evaluations of the network, over all draws.
      converged: whether every draw's solve reached the end within its tolerances, at a finite
        density.
    """

    index: int
    log_likelihood: float
    nfe: int
    converged: bool


@dataclass(frozen=True)
class OdeLikelihood:
    """log P(k) ≥ logsumexp_i(log p0(z_i) + w_i) − log K over K dequantised draws z_i.

    In expectation the bound does not decrease with K. All K draws of an image share one probe of
    the trace: independent ones would bias the logsumexp upwards.

    Args:
      dequantization: from density to code length.
      solver, controller: of the ODE.
      variable: along which it is solved.
      divergence: how the trace is found.
      lanes: solves under way at a time.
      combination: of the K draws.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 4 (there without the − log K); Burda et
    al. 2015, arXiv:1509.00519, equation 8.
    """

    dequantization: Dequantization = field(default_factory=TruncatedNormalDequantization)
    solver: Solver = field(default_factory=DormandPrince5)
    controller: StepController = field(default_factory=PIController)
    variable: IntegrationVariable = field(default_factory=NaturalVariable)
    divergence: Divergence = field(default_factory=HutchinsonTrace)
    lanes: int = 64
    combination: DrawCombination = field(default_factory=ImportanceWeighted)

    def __post_init__(self):
        if self.lanes < 1:
            raise UserError(f"lanes = {self.lanes} is below 1: give a positive number.")

    def of_images(
        self,
        model: Model,
        parameters: Parameters,
        images: Iterable[tuple[int, np.ndarray]],
        key: Key,
        *,
        num_importance: int = 1,
        sharding: jax.sharding.Sharding | None = None,
    ) -> Iterator[ImageLikelihood]:
        """Yields every image's likelihood as soon as its draws have ended, in no fixed order.

        What is drawn for an image depends on `key` and its index only: neither on the lanes, nor on
        which other images there are.

        Args:
          model, parameters: what is judged.
          images: (index, levels [h, w, c]).
          key: of this evaluation.
          num_importance: K.
          sharding: of the lanes.
        """
        check_draws(self.dequantization, self.combination, num_importance)
        flow = ProbabilityFlow(model, self.variable, self.divergence)
        first = flow.position(self.dequantization.gamma(model))
        waiting: dict[int, list[_Draw]] = {}
        weights: dict[int, np.ndarray] = {}
        solutions = solve_lanes(
            flow,
            parameters,
            self._items(model, images, key, num_importance, weights),
            lanes=self.lanes,
            solver=self.solver,
            controller=self.controller,
            span=(first, flow.position(model.schedule.gamma_1)),
            sharding=sharding,
        )
        for solution in solutions:
            index, draw = divmod(int(solution.index), num_importance)
            log_weight = float(weights[index][draw])
            prior = _prior_log_density(model, jnp.asarray(solution.z)[None])
            log_density = float(prior[0]) + float(solution.ell)
            draws = waiting.setdefault(index, [])
            draws.append(
                _Draw(log_density + log_weight, int(solution.nfe), bool(solution.converged))
            )
            if len(draws) == num_importance:
                del weights[index]
                yield _combined(index, waiting.pop(index), self.combination)

    def _items(
        self, model: Model, images, key: Key, count: int, weights: dict[int, np.ndarray]
    ) -> Iterator[Item]:
        """The K solves of every image; remembers the log-weights of those under way."""
        for index, levels in images:
            start = _starts(self, model, count, jnp.asarray(levels, jnp.int32), key, index)
            z, weights[index], probe = (np.asarray(part) for part in start)
            for draw in range(count):
                yield Item(index * count + draw, z[draw], 0.0, probe)


class _Draw(NamedTuple):
    log_weight: float
    nfe: int
    converged: bool


def _combined(index: int, draws: list[_Draw], combination: DrawCombination) -> ImageLikelihood:
    log_likelihood = combination(np.asarray([draw.log_weight for draw in draws]))
    return ImageLikelihood(
        index=index,
        log_likelihood=log_likelihood,
        nfe=sum(draw.nfe for draw in draws),
        converged=all(draw.converged for draw in draws) and math.isfinite(log_likelihood),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _starts(likelihood: OdeLikelihood, model: Model, count: int, levels: Levels, key: Key, index):
    """K starts [K, h, w, c], their log-weights [K] and the probe of an image's solves."""
    key = jax.random.fold_in(key, index)
    noise_key, probe_key = jax.random.split(key)
    noise_keys = jax.vmap(lambda draw: jax.random.fold_in(noise_key, draw))(jnp.arange(count))
    noise = jax.vmap(lambda one: likelihood.dequantization.draw(model, one))(noise_keys)
    repeated = jnp.broadcast_to(levels, (count, *levels.shape))
    start = likelihood.dequantization.start(model, repeated, noise)
    probe = draw_probes(likelihood.divergence, probe_key[None], model.pixels.shape)
    return start.z, start.log_weight, jax.tree.map(lambda p: p[0], probe)


_prior_log_density = functools.partial(jax.jit, static_argnums=0)(Model.prior_log_density)
