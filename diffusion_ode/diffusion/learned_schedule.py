"""Schedules that are learned while training."""

import abc
import functools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from diffusion_ode.diffusion.schedule import NoiseSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Gamma, Within
from diffusion_ode.typing import Key, Parameters

SCHEDULE = "schedule"
"""The key of a learned schedule's parameters, beside the network's."""


@dataclass(frozen=True)
class LearnedSchedule(NoiseSchedule):
    """Learned: γ(t) = γ0 + (γ1 − γ0) f(t), with f(t) = (g(t) − g(0))/(g(1) − g(0)).

    The end points γ0 = b and γ1 = b + |w| are learned by the variational bound, whose terms at the
    ends then belong to the loss. The continuous bound does not depend on f, and the variance of its
    estimate at times uniform in t does: f is learned by E[L²], L an image's loss.

    It is not used itself: `Model.bound` gives the schedule of some parameters. The network is told
    (γ − gamma_0)/(gamma_1 − gamma_0), whatever is learned.

    Args:
      gamma_0, gamma_1: where the end points start.
      learn_ends: else they stay there.
      by_variance: else f is learned by the gradient of L, as in VDM's program; that is what T steps
        want, whose bound depends on f.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 4 and appendix H.
    """

    gamma_0: Gamma = -13.3
    gamma_1: Gamma = 5.0
    learn_ends: bool = True
    by_variance: bool = True

    has_shape: ClassVar[bool] = True
    """Whether f is learned; else it is t."""

    @property
    def fixed_ends(self) -> str:
        """The setting under which the same is learned, if anything, but for the ends."""
        return "model.schedule.learn_ends=False"

    def init(self, key: Key, image: tuple[int, ...] = (1, 1, 1)) -> Parameters:
        """Fresh parameters: `ends`, if they are learned, and `shape`, if f is no straight line.

        Args:
          key: of what is drawn.
          image: the shape of an image.
        """
        del image
        ends = {"w": self.gamma_1 - self.gamma_0, "b": self.gamma_0}
        ends = {name: jnp.asarray(end, jnp.result_type(float)) for name, end in ends.items()}
        parts = {"ends": ends} if self.learn_ends else {}
        return {**parts, "shape": self.init_shape(key)} if self.has_shape else parts

    @abc.abstractmethod
    def init_shape(self, key: Key) -> Parameters:
        """Fresh parameters of g."""

    @abc.abstractmethod
    def growth(self, shape: Parameters, time: Float[Array, "..."]) -> Float[Array, "..."]:
        """The increasing g(t), up to a constant."""

    def gamma(self, time):
        raise TypeError("a learned schedule has no γ(t) without parameters: see Model.bound")

    def check(self, objective: Any) -> None:
        """Refuses an objective that it cannot be learned by.

        Raises:
          UserError: its loss is no bound, its times do not follow the schedule, or what the
            interior is learned by is not free of it.
        """
        name, weighting = type(self).__name__, getattr(objective, "weighting", None)
        if not getattr(weighting, "is_bound", False):
            what = type(objective if weighting is None else weighting).__name__
            raise UserError(
                f"model.schedule = {name} is learned by the variational bound, which"
                f" the loss under {what} is not: give train.objective.weighting="
                "likelihood_weighting(), or a schedule that is fixed."
            )
        if self.learn_ends and not getattr(objective, "is_bound", True):
            raise UserError(
                f"model.schedule = {name} learns its ends by the variational bound, to which"
                f" train.objective = {type(objective).__name__} adds another term: give"
                f" {self.fixed_ends}, or train.objective=flow_matching()."
            )
        if not self.has_shape:
            return
        times = type(objective.times)
        if not getattr(times, "follows_schedule", True):
            raise UserError(
                f"model.schedule = {name} learns which times are drawn, and"
                f" train.objective.times = {times.__name__} draws others: give"
                " train.objective.times=uniform_times(), or learned_scalar_schedule()."
            )
        if self.by_variance and not getattr(times, "estimates_integral", True):
            raise UserError(
                f"model.schedule = {name} learns its interior by the loss's variance alone, but the"
                f" bound under train.objective.times = {times.__name__} depends on it too: give"
                " model.schedule.by_variance=False, or train.objective.times=uniform_times()."
            )

    def of(self, parameters: Parameters) -> "TrainedSchedule":
        """The schedule of these parameters; of concrete ones with numbers for end points."""
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(parameters)):
            parameters = jax.tree.map(np.asarray, parameters)
        ends = parameters.get("ends")
        gamma_0: Any = self.gamma_0 if ends is None else ends["b"]
        gamma_1: Any = self.gamma_1 if ends is None else ends["b"] + abs(ends["w"])
        if isinstance(gamma_0, np.ndarray):
            gamma_0, gamma_1 = float(gamma_0), float(gamma_1)
        return TrainedSchedule(self, parameters.get("shape", {}), gamma_0, gamma_1)


@dataclass(frozen=True, eq=False)
class TrainedSchedule(NoiseSchedule):
    """A learned schedule as some parameters have it; equal to another with the same numbers.

    Args:
      learned: of which it is one.
      shape: parameters of g.
      gamma_0, gamma_1: its end points; arrays while they are traced.
    """

    learned: LearnedSchedule
    shape: Any
    gamma_0: Any
    gamma_1: Any

    def __post_init__(self):
        pass  # γ1 − γ0 = |w|, and traced ends cannot be compared

    def gamma(self, time):
        growth = functools.partial(self.learned.growth, self.shape)
        first, last = growth(jnp.zeros_like(time)), growth(jnp.ones_like(time))
        share = (growth(time) - first) / (last - first)
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * share

    def network_time(self, gamma):
        return self.learned.network_time(gamma)

    def _key(self):
        leaves = jax.tree_util.tree_leaves_with_path(self.shape)
        numbers = tuple((jax.tree_util.keystr(path), leaf.tobytes()) for path, leaf in leaves)
        return self.learned, self.gamma_0, self.gamma_1, numbers

    def __eq__(self, other):
        return isinstance(other, TrainedSchedule) and self._key() == other._key()

    def __hash__(self):
        return hash(self._key())


def learns_ends(schedule: NoiseSchedule) -> bool:
    """Whether the end points are learned, so that the bound's terms there have a gradient."""
    return isinstance(schedule, TrainedSchedule) and schedule.learned.learn_ends


@dataclass(frozen=True)
class LearnedScalarSchedule(LearnedSchedule):
    """Linear with learned end points: γ(t) = b + |w| t.

    Source: Kingma et al. 2021, arXiv:2107.00630, its program's scalar schedule.
    """

    has_shape: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if not self.learn_ends:
            raise UserError(
                "learned_scalar_schedule(learn_ends=False) has nothing to learn: give"
                f" {self.fixed_ends}, which is the same, or learned_monotone_schedule()."
            )

    @property
    def fixed_ends(self):
        return f"model.schedule=linear_schedule(gamma_0={self.gamma_0}, gamma_1={self.gamma_1})"

    def init_shape(self, key):
        return {}

    def growth(self, shape, time):
        return time


@dataclass(frozen=True)
class LearnedMonotoneSchedule(LearnedSchedule):
    """A monotone network: g(t) = |l1| t + |l3|·(2 sig(|l2|·2(t − ½) + b2) − 1)/n.

    It starts as almost the linear one. The program of VDM leaves out the normalisation of g, and so
    has no end points of their own.

    Args:
      features: n.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix H.
    """

    features: Annotated[int, Within(1, 2**16)] = 1024

    def init_shape(self, key):
        inner, outer = jax.random.split(key)
        return {
            "l1": jnp.ones(()),
            "l2": {
                "kernel": jax.random.normal(inner, (self.features,)),
                "bias": jnp.zeros(self.features),
            },
            "l3": jax.random.normal(outer, (self.features,)) / self.features**0.5,
        }

    def growth(self, shape, time):
        every = shape["l2"]["kernel"], shape["l2"]["bias"], shape["l3"]
        kernel, bias, outer = (x.reshape(*(1,) * jnp.ndim(time), -1) for x in every)
        hidden = jnp.tanh(abs(kernel) * (time - 0.5)[..., None] + 0.5 * bias)  # 2 sig(x) − 1
        return abs(shape["l1"]) * time + jnp.mean(abs(outer) * hidden, axis=-1)
