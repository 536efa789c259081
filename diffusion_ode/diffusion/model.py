"""A diffusion ODE on paper: what it is made of."""

import dataclasses
import functools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.gaussian_base import BASE, GaussianBase, trained
from diffusion_ode.diffusion.input_scaling import AsItIs, InputScaling
from diffusion_ode.diffusion.learned_schedule import SCHEDULE, LearnedSchedule
from diffusion_ode.diffusion.parameterization import Parameterization
from diffusion_ode.diffusion.path import Path
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.prior import FittedPrior, GaussianPrior, Prior, StandardPrior
from diffusion_ode.diffusion.schedule import NoiseSchedule, along_images
from diffusion_ode.errors import UserError
from diffusion_ode.networks.network import Network
from diffusion_ode.solvers.divergence import ValueAndTrace
from diffusion_ode.typing import Images, Key, Parameters, PerImage


@dataclass(frozen=True)
class Model:
    """A path, a schedule, a meaning for the network's output, the network, and the pixels.

    The probability-flow ODE is dz/dγ = (d log α/dγ) z + ½σ ε̂(z, γ), with ε̂ = a · output + b · z by
    the parameterisation. It holds no parameters: they are passed to whatever needs them.

    Source: Zheng et al. 2023, arXiv:2305.03935, sections 2 and 3.
    """

    path: Path
    schedule: NoiseSchedule
    parameterization: Parameterization
    network: Network
    pixels: Pixels
    input_scaling: InputScaling = field(default_factory=AsItIs)
    base: GaussianBase | None = None
    prior: Prior = field(default_factory=StandardPrior)

    def __post_init__(self):
        check_fields(self, but=("network",))
        if self.base is None and isinstance(self.prior, FittedPrior):
            raise UserError(
                "model.prior = FittedPrior() takes the statistics of a Gaussian base: give --set"
                " 'model.base=gaussian_base()', too."
            )
        if self.base is not None and self.schedule.by_pixel:
            raise UserError(
                f"model.schedule = {type(self.schedule).__name__} gives each pixel its own γ, and"
                " model.base knows its Gaussian under one γ for all: give model.base=None, or"
                " learned_monotone_schedule()."
            )

    def init(self, key: Key) -> Parameters:
        """Fresh parameters: the network's own tree, and beside it what else a model has of them."""
        image = jnp.zeros((1, *self.pixels.shape))
        parameters = self.network.init(key, image, *[jnp.zeros(1)] * 3)["params"]
        if self.base is not None:
            parameters = {**parameters, BASE: self.base.init(self.pixels.shape)}
        if isinstance(self.schedule, LearnedSchedule):
            schedule = self.schedule.init(jax.random.fold_in(key, 1), self.pixels.shape)
            parameters = {**parameters, SCHEDULE: schedule}
        return parameters

    def bound(self, parameters: Parameters) -> "Model":
        """The same with the schedule and the prior of these parameters, if they depend on them.

        Whatever reads γ(t), its ends or the prior wants it. Of concrete parameters it is a model as
        any other, which the program of another one cannot serve.
        """
        model = self
        if isinstance(self.schedule, LearnedSchedule):
            schedule = self.schedule.of(parameters[SCHEDULE])
            model = dataclasses.replace(model, schedule=schedule)
        if self.base is not None and isinstance(self.prior, FittedPrior):
            prior = GaussianPrior(self.base, parameters[BASE])
            model = dataclasses.replace(model, prior=prior)
        return model

    def predict(
        self,
        parameters: Parameters,
        z: Images,
        gamma: PerImage,
        flag: PerImage,
        dropout_key: Key | None = None,
    ) -> Images:
        """The output at γ, with a base the sum of its and the network's; dropout if given a key."""
        output = self.network_output(parameters, z, gamma, flag, dropout_key)
        if self.base is None:
            return output
        return output + self.base_output(parameters, z, gamma).value

    def base_output(self, parameters: Parameters, z: Images, gamma: PerImage) -> ValueAndTrace:
        """The base's share of the output, and the trace of its Jacobian, in closed form."""
        assert self.base is not None
        statistics = jax.lax.stop_gradient(parameters[BASE])
        at = along_images(gamma)
        return self.base.output(statistics, self.path, self.parameterization, at, z)

    def network_output(
        self,
        parameters: Parameters,
        z: Images,
        gamma: PerImage,
        flag: PerImage,
        dropout_key: Key | None = None,
    ) -> Images:
        """The network's share of the output."""
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        scale = self.input_scaling.factor(self.path, gamma)
        return self.network.apply(
            {"params": trained(parameters)},
            along_images(scale) * z,
            self.schedule.network_time(gamma),
            flag,
            scale * self.path.sigma(gamma),
            deterministic=dropout_key is None,
            rngs=rngs,
        )

    def noised(self, x: Images, gamma: PerImage, noise: Images) -> Images:
        """The noised image z = αx + σε."""
        gamma = self.schedule.at_pixels(gamma)
        return self.path.alpha(gamma) * x + self.path.sigma(gamma) * noise

    def target(self, x: Images, gamma: PerImage, noise: Images) -> Images:
        """What the network should answer at z = αx + σε."""
        return self.parameterization.target(self.path, self.schedule.at_pixels(gamma), x, noise)

    def noise(self, output: Images, z: Images, gamma: PerImage) -> Images:
        """The noise ε̂ from the network's output."""
        gamma = self.schedule.at_pixels(gamma)
        gain = self.parameterization.gain(self.path, gamma)
        return gain * output + self.parameterization.skip(self.path, gamma) * z

    def likelihood_weight(self, gamma: PerImage) -> PerImage:
        """The weight ½a² of ‖output − target‖² in the diffusion term, in nats per unit of γ."""
        return 0.5 * jnp.square(self.parameterization.gain(self.path, gamma))

    def diffusion_term(self, error: Images, gamma: PerImage, density: PerImage) -> PerImage:
        """The bound's diffusion term from one γ: (½a²/p) ‖error‖² per image, in nats.

        Args:
          error: output − target at γ.
          gamma, density: γ, and the density p that it was drawn with.
        """
        if not self.schedule.by_pixel:
            return self.likelihood_weight(gamma) / density * squared_norm(error)
        weight = self.likelihood_weight(self.schedule.at_pixels(gamma))
        rate = self.schedule.pixel_rate(gamma)
        return jnp.sum(weight * rate * jnp.square(error), axis=(1, 2, 3)) / density

    def prior_log_density(self, z: Images) -> PerImage:
        """The log-density of the prior at the noise end, in nats per image."""
        return self.prior.log_density(self.path, self.schedule.gamma_1, z)

    def prior_divergence(self, x: Images) -> PerImage:
        """The prior term KL(q(z1 | x) ‖ p(z1)) of encoded images, in nats per image."""
        return self.prior.divergence(self.path, self.schedule.gamma_1, x)

    def prior_draw(self, noise: Images) -> Images:
        """A draw of the prior, made of standard normal noise."""
        return self.prior.draw(self.path, self.schedule.gamma_1, noise)


def squared_norm(images: Images) -> PerImage:
    """The square ‖·‖² per image."""
    return jnp.sum(jnp.square(images), axis=(1, 2, 3))


@functools.lru_cache(maxsize=2)  # several tasks ask, and a large network takes seconds
def abstract_parameters(model: Model) -> Parameters:
    """Shapes and types of the parameters, without making any."""
    return jax.eval_shape(model.init, jax.random.key(0))


@functools.lru_cache(maxsize=2)
def imagined(model: Model) -> tuple[Model, Parameters]:
    """The model as bound to fresh parameters, and their shapes: enough to trace what it does."""
    beside = {}
    if isinstance(model.schedule, LearnedSchedule):
        beside[SCHEDULE] = model.schedule.init(jax.random.key(0), model.pixels.shape)
    if model.base is not None and isinstance(model.prior, FittedPrior):
        beside[BASE] = model.base.init(model.pixels.shape)
    return model.bound(beside), abstract_parameters(model)


def parameter_count(model: Model) -> int:
    """The exact number of parameters, without making any."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_parameters(model)))
