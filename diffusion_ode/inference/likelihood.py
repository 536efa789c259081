"""The likelihood of images by solving the probability-flow ODE, image by image."""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.computation import SAME_VALUES
from diffusion_ode.diffusion.dequantization import Dequantization, TruncatedNormalDequantization
from diffusion_ode.diffusion.integration_variable import IntegrationVariable, LogSnrVariable
from diffusion_ode.diffusion.model import Model, imagined
from diffusion_ode.errors import UserError
from diffusion_ode.inference.draw_combination import (
    DrawCombination,
    ImportanceWeighted,
    check_draws,
)
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.randomness import image_keys
from diffusion_ode.ranges import Count
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.divergence import Divergence, draw_probes
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.lanes import Item, solve_lanes, trace_lanes
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import StepController
from diffusion_ode.typing import Key, Levels, Parameters

STARTED_TOGETHER = 64
"""Images whose noise is drawn in one call: a call costs more than a draw."""
_PROBES = 2**31 - 1  # folds the probes' key from the noise's: no index of an image


def likelihood_controller() -> PIController:
    """Steps for a mean likelihood: see OdeLikelihood for the measurements behind the numbers.

    z may err by 1.5 % of σ a step. The tolerance of the log-density is for probes that are held;
    it guards against a solve that leaps over structure: at the tolerance of z it decides few steps.
    An Adams method wants its steps to grow gently. A first step of 0.1 in γ spares the search for
    one.
    """
    return PIController(
        rtol=0.0,
        atol=0.0,
        unit_tolerance=1.5e-2,
        log_density_tolerance=1e-2,
        initial_step=0.1,
        factor_max=2.0,
    )


def likelihood_divergence() -> HutchinsonTrace:
    """One probe at a time, renewed so often that nearly every evaluation has its own.

    On colour patches the figures of one image under other probes lie 0.018 bits per dimension apart
    instead of the 0.082 of one probe that is held, at as many evaluations.
    """
    return HutchinsonTrace(segments=64)


class ImageLikelihood(NamedTuple):
    """One image's result.

    Attributes:
      index: its position in the split.
      log_likelihood: nats, NaN if it has not converged; a lower bound on log P(k) in expectation,
        if `OdeLikelihood.gives_code_lengths`.
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
    """A bound log P(k) ≥ logsumexp_i(log p0(z_i) + w_i) − log K over K dequantised draws z_i.

    With the exact trace it is a lower bound in expectation, which does not decrease with K. With an
    estimated one it is so for K = 1 only: the logsumexp of K > 1 draws prefers those whose trace
    erred upwards, and so exceeds log P(k) by more, the more K is. All K draws of an image share its
    probes, which takes from the bias what is common to their errors, and leaves what differs from
    z_i to z_i (docs/mathematics.md, section 7).

    Args:
      dequantization: from density to code length.
      solver, controller: of the ODE.
      variable: along which it is solved.
      divergence: how the trace is found.
      lanes: solves under way at a time.
      combination: of the K draws.

    The defaults are measured (benchmarks/likelihood.py; README has the table): at tolerances for z
    in units of σ no other method and variable needs fewer evaluations for the same error than Adams
    along γ, whose evaluations are evenly weighted. Where the field is smooth in that unit, as
    damped Fourier features make it, digits take 39 evaluations and colour patches 45; their means
    err by at most 0.002 bpd, single images by 0.003 (rms). Other networks want a tighter
    controller: an evaluation states the solver's error. Few lanes waste least when the images run
    out; accelerators want as many as keep them busy.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 4 (there without the − log K); Burda et
    al. 2015, arXiv:1509.00519, equation 8.
    """

    dequantization: Dequantization = field(default_factory=TruncatedNormalDequantization)
    solver: Solver = field(default_factory=Adams)
    controller: StepController = field(default_factory=likelihood_controller)
    variable: IntegrationVariable = field(default_factory=LogSnrVariable)
    divergence: Divergence = field(default_factory=likelihood_divergence)
    lanes: Count = field(default=32, metadata=SAME_VALUES)  # it moves a solve within its tolerance
    combination: DrawCombination = field(default_factory=ImportanceWeighted)

    def __post_init__(self):
        check_fields(self)
        if self.divergence is None:
            raise UserError(
                "divergence = None leaves the log-density unknown: give HutchinsonTrace() or"
                " ExactTrace()."
            )
        self.controller.check(self.solver, np.dtype(np.float64))

    def gives_code_lengths(self, num_importance: int) -> bool:
        """Whether K draws give a lower bound on log P(k) in expectation: see above."""
        weighted = num_importance > 1 and self.combination.exponentiates
        return self.divergence.exact or not weighted

    def check(self, model: Model) -> None:
        """Traces a start and an evaluation: what cannot be found of this model is refused now.

        Nothing is compiled.
        """
        model, parameters = imagined(model)
        start, schedule = self.dequantization.gamma(model), model.schedule
        if schedule.by_pixel and start != schedule.gamma_0:
            raise UserError(
                f"The dequantisation starts at γ = {start:.4g}, where the schedule's pixels have a"
                f" γ each: start at its end {schedule.gamma_0:.4g}, as"
                " truncated_normal_dequantization() does."
            )
        together, shape = (STARTED_TOGETHER,), tuple(model.pixels.shape)
        key = jax.eval_shape(jax.random.key, 0)
        z, _, probes = jax.eval_shape(
            functools.partial(_starts, self, model, 1),
            jax.ShapeDtypeStruct((*together, *shape), jnp.int32),
            (key, key),
            jax.ShapeDtypeStruct(together, jnp.uint32),
        )
        image = jax.ShapeDtypeStruct(shape, z.dtype)
        trace_lanes(
            ProbabilityFlow(model, self.variable, self.divergence),
            parameters,
            image,
            jax.tree.map(_of_one, probes),
            lanes=self.lanes,
            solver=self.solver,
            controller=self.controller,
        )
        jax.eval_shape(lambda z: _prior_log_density(model, z[None]), image)

    def of_images(
        self,
        model: Model,
        parameters: Parameters,
        images: Iterable[tuple[int, np.ndarray]],
        key: Key,
        *,
        probe_key: Key | None = None,
        num_importance: int = 1,
        sharding: jax.sharding.Sharding | None = None,
        expected: int = 0,
    ) -> Iterator[ImageLikelihood]:
        """Every image's likelihood as soon as its draws have ended, in no fixed order.

        What is drawn for an image depends on the keys and its index only: neither on the lanes, nor
        on which other images there are.

        Args:
          model, parameters: what is judged.
          images: (index, levels [h, w, c]).
          key: of the dequantisation's noise.
          probe_key: of the trace's probes; by default it follows from `key`.
          num_importance: K.
          sharding: of the lanes.
          expected: so many lanes are kept as this many images need: those of a whole of which
            these are the rest, so that they are solved by the same program.
        """
        check_draws(self.dequantization, self.combination, num_importance)
        keys = (key, jax.random.fold_in(key, _PROBES) if probe_key is None else probe_key)
        # Refused above at once; what follows runs only as results are asked for.
        return self._solved(model, parameters, images, keys, num_importance, sharding, expected)

    def _solved(
        self,
        model: Model,
        parameters: Parameters,
        images: Iterable[tuple[int, np.ndarray]],
        keys: tuple[Key, Key],
        num_importance: int,
        sharding: jax.sharding.Sharding | None,
        expected: int,
    ) -> Iterator[ImageLikelihood]:
        flow = ProbabilityFlow(model, self.variable, self.divergence)
        first = flow.position(self.dequantization.gamma(model))
        waiting: dict[int, list[_Draw]] = {}
        weights: dict[int, np.ndarray] = {}
        solutions = solve_lanes(
            flow,
            parameters,
            self._items(model, images, keys, num_importance, weights),
            lanes=self.lanes,
            solver=self.solver,
            controller=self.controller,
            span=(first, flow.position(model.schedule.gamma_1)),
            sharding=sharding,
            expected=expected * num_importance,
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
        self, model: Model, images, keys, count: int, weights: dict[int, np.ndarray]
    ) -> Iterator[Item]:
        """The K solves of every image; remembers the log-weights of those under way."""
        remaining = iter(images)
        while chunk := list(itertools.islice(remaining, STARTED_TOGETHER)):
            # Padded, so that the last chunk needs no compilation of its own.
            padded = chunk + [chunk[-1]] * (STARTED_TOGETHER - len(chunk))
            indices = np.asarray([index for index, _ in padded], np.uint32)
            levels = np.stack([levels for _, levels in padded]).astype(np.int32)
            starts = jax.device_get(_starts(self, model, count, levels, keys, indices))
            for position, (index, _) in enumerate(chunk):
                z, weights[index], probe = jax.tree.map(lambda a, at=position: a[at], starts)
                for draw in range(count):
                    yield Item(index * count + draw, z[draw], 0.0, probe)


def _of_one(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)


class _Draw(NamedTuple):
    log_weight: float
    nfe: int
    converged: bool


def _combined(index: int, draws: list[_Draw], combination: DrawCombination) -> ImageLikelihood:
    log_likelihood = combination(np.asarray([draw.log_weight for draw in draws]))
    converged = all(draw.converged for draw in draws) and math.isfinite(log_likelihood)
    return ImageLikelihood(
        index=index,
        log_likelihood=log_likelihood if converged else math.nan,
        nfe=sum(draw.nfe for draw in draws),
        converged=converged,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _starts(
    likelihood: OdeLikelihood, model: Model, count: int, levels: Levels, keys: tuple, indices
):
    """Starts [b, K, h, w, c] of each image, their log-weights [b, K], and its solves' probe."""
    dequantization = likelihood.dequantization
    draws = jnp.arange(count)

    def noise_of(key):
        return jax.vmap(lambda k: dequantization.draw(model, jax.random.fold_in(key, k)))(draws)

    noise = jax.vmap(noise_of)(image_keys(keys[0], indices))
    repeated = jnp.repeat(levels, count, axis=0)
    start = dequantization.start(model, repeated, noise.reshape(-1, *model.pixels.shape))
    probes = draw_probes(likelihood.divergence, image_keys(keys[1], indices), model.pixels.shape)
    return start.z.reshape(noise.shape), start.log_weight.reshape(-1, count), probes


_prior_log_density = functools.partial(jax.jit, static_argnums=0)(Model.prior_log_density)
