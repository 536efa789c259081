"""The variational bound on the negative log-likelihood, per image and in its parts."""

import functools
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusion_ode.backend import loops_are_fast
from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.end_terms import EndTerms, GaussianEnds
from diffusion_ode.diffusion.model import Model, imagined
from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes, TimeSampler
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Draws
from diffusion_ode.typing import Key, Levels, Parameters, PerImage

CHECKED = 128
"""Images in a batch that is traced beforehand; those of an evaluation have as many."""


class BoundTerms(NamedTuple):
    """Nats per image; their sum is an upper bound on −log P(k), in expectation over the draws."""

    reconstruction: PerImage
    prior: PerImage
    diffusion: PerImage

    @property
    def total(self) -> PerImage:
        return self.reconstruction + self.prior + self.diffusion


@dataclass(frozen=True)
class VariationalBound:
    """The bound −log P(k) ≤ E[−log P(k|z0)] + KL(q(z1|x) ‖ p(z1)) + ½∫ E‖ε − ε̂‖² dγ.

    The prior p(z1) is the model's, and so the same as that of the ODE.

    Args:
      draws: of γ and ε per image; the times of one image are spread evenly over the density.
      times: where γ is drawn from; `DiscreteTimes(T)` makes it the bound of T steps.
      ends: the reconstruction and prior terms.

    Source: Kingma et al. 2021, arXiv:2107.00630, equations 11 to 18.
    """

    draws: Draws = 32
    times: TimeSampler = field(default_factory=ImportanceSampledTimes)
    ends: EndTerms = field(default_factory=GaussianEnds)

    def __post_init__(self):
        check_fields(self)
        if jax.tree.leaves(self.times.init()):
            raise UserError(
                f"times = {self.times} learns while training, which a bound does not do: give"
                " ImportanceSampledTimes() or UniformTimes()."
            )

    def check(self, model: Model) -> None:
        """Traces a draw of some images: what its pieces raise is raised now.

        Raises:
          UserError: a term is not one number per image.
        """
        model, parameters = imagined(model)
        levels = jax.ShapeDtypeStruct((CHECKED, *model.pixels.shape), jnp.int32)
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), CHECKED))
        ends = functools.partial(_end_terms, self.ends, model)
        draw = functools.partial(_diffusion_draw, self, model)
        with jax.default_matmul_precision("highest"):
            reconstruction, prior = jax.eval_shape(ends, parameters, levels, keys)
            diffusion = jax.eval_shape(draw, parameters, levels, keys, jnp.int32(0))
        terms = BoundTerms(reconstruction, prior, diffusion)
        for name, term in terms._asdict().items():
            if term.shape != keys.shape:
                raise UserError(
                    f"The bound's {name} term of {CHECKED} images has the shape"
                    f" {list(term.shape)}: it must be one number for each image."
                )

    def terms(self, model: Model, parameters: Parameters, levels: Levels, keys: Key) -> BoundTerms:
        """The bound of a batch; each image's draws depend on its own key alone.

        Args:
          model, parameters: what is judged.
          levels: integers [b, h, w, c].
          keys: [b].
        """
        model.schedule.check_times(self.times)
        end_keys, flow_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        reconstruction, prior = _end_terms(self.ends, model, parameters, levels, end_keys)

        def one_draw(draw):
            return _diffusion_draw(self, model, parameters, levels, flow_keys, draw)

        with jax.default_matmul_precision("highest"):
            if loops_are_fast():
                draws = jnp.arange(self.draws, dtype=jnp.int32)
                diffusion = jax.lax.map(one_draw, draws).mean(axis=0)
            else:
                drawn = [one_draw(jnp.int32(draw)) for draw in range(self.draws)]
                diffusion = jnp.mean(jnp.stack(drawn), axis=0)
        return BoundTerms(reconstruction, prior, diffusion)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _end_terms(
    ends: EndTerms, model: Model, parameters: Parameters, levels: Levels, keys: Key
) -> tuple[PerImage, PerImage]:
    """Reconstruction (one draw of z0 per image) and prior term."""
    model = model.bound(parameters)
    noise = jax.vmap(lambda key: jax.random.normal(key, model.pixels.shape))(keys)
    return ends.reconstruction(model, levels, noise), ends.prior(model, levels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _diffusion_draw(
    bound: VariationalBound, model: Model, parameters: Parameters, levels: Levels, keys: Key, draw
) -> PerImage:
    """One draw of ½∫‖ε − ε̂‖² dγ for every image, in nats."""
    model = model.bound(parameters)

    def of_image(key):
        offset_key, noise_key = jax.random.split(key)
        noise = jax.random.normal(jax.random.fold_in(noise_key, draw), model.pixels.shape)
        return jax.random.uniform(offset_key), noise

    offset, noise = jax.vmap(of_image)(keys)
    u = offset + draw / bound.draws
    times = bound.times.sample(bound.times.init(), model.path, model.schedule, u - jnp.floor(u))
    x = model.pixels.encode(levels)
    z = model.noised(x, times.gamma, noise)
    output = model.predict(parameters, z, times.gamma, jnp.zeros(levels.shape[0]))
    error = output - model.target(x, times.gamma, noise)
    return model.diffusion_term(error, times.gamma, times.density)
