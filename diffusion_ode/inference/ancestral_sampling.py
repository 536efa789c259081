"""Images from noise in T random steps."""

import functools
import itertools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.backend import loops_are_fast
from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.model import Model, imagined
from diffusion_ode.inference.decoding import Decoder, DrawnLevel
from diffusion_ode.inference.sampling import Sample, check_drawn
from diffusion_ode.randomness import image_keys
from diffusion_ode.ranges import Count
from diffusion_ode.typing import Images, Key, Parameters, PerImage


@dataclass(frozen=True)
class AncestralSampler:
    """From the prior, then from t to s = t − 1/T by q(z_s | z_t, x) with the network's guess for x.

    z_s = (α_s/α_t)(z_t − c σ_t ε̂) + √c σ_s ε, c = −expm1(γ_s − γ_t). It holds for any path, being
    a statement about the Gaussians q alone. With `DrawnLevel` the images are those of the model
    that `VariationalBound(times=DiscreteTimes(T))` bounds.

    Args:
      steps: T, evaluations of the network per image.
      decoder: from z at γ0 to levels.
      lanes: images under way at a time.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.5 and appendix A.4.
    """

    steps: Count = 1000
    decoder: Decoder = field(default_factory=DrawnLevel)
    lanes: Count = 64

    __post_init__ = check_fields

    def check(self, model: Model) -> None:
        """Traces a start, a step and the decoder: what they raise is raised now."""
        model, parameters = imagined(model)
        key, indices = jax.eval_shape(jax.random.key, 0), np.zeros(self.lanes, np.int32)
        z, keys = jax.eval_shape(functools.partial(_noise, model), key, indices)
        step = functools.partial(_one_step, model, self.steps)
        z = jax.eval_shape(step, parameters, z, keys, jnp.int32(1))
        check_drawn(
            jax.eval_shape(functools.partial(_decoded, self.decoder, model), z, keys), model
        )

    def draw(self, model, parameters, indices, key, sharding=None):
        source = iter(indices)
        while taken := list(itertools.islice(source, self.lanes)):
            # Always `lanes` images, so that the last ones compile nothing anew.
            padded = np.asarray(taken + [0] * (self.lanes - len(taken)), np.int32)
            lanes = jnp.asarray(padded) if sharding is None else jax.device_put(padded, sharding)
            z, keys = _noise(model, key, lanes)
            z = self._denoised(model, parameters, z, keys)
            images = np.asarray(_decoded(self.decoder, model, z, keys))
            finite = np.all(np.isfinite(np.asarray(z)), axis=(1, 2, 3))
            for lane, index in enumerate(taken):
                yield Sample(int(index), images[lane], self.steps, bool(finite[lane]))

    def _denoised(self, model: Model, parameters: Parameters, z: Images, keys: Key) -> Images:
        if loops_are_fast():
            return _all_steps(model, self.steps, parameters, z, keys)
        for step in range(self.steps, 0, -1):
            z = _one_step(model, self.steps, parameters, z, keys, jnp.int32(step))
        return z


@functools.partial(jax.jit, static_argnums=0)
def _noise(model: Model, key: Key, indices) -> tuple[Images, Key]:
    """The starts z1 of the images numbered so, and the keys of all that they need later."""
    keys = image_keys(key, indices)
    noise_keys, later_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return model.prior_draw(_standard_normal(model, noise_keys)), later_keys


@functools.partial(jax.jit, static_argnums=(0, 1))
def _one_step(model: Model, steps: int, parameters: Parameters, z: Images, keys: Key, step):
    """From t = step/T to s = t − 1/T."""
    time = jnp.full(z.shape[:1], step / steps)
    gamma_t = model.schedule.gamma(time)
    change = model.schedule.change(time, 1.0 / steps)
    with jax.default_matmul_precision("highest"):
        output = model.predict(parameters, z, gamma_t, jnp.zeros_like(gamma_t))
    fresh = _standard_normal(model, jax.vmap(lambda key: jax.random.fold_in(key, step))(keys))
    return ancestral_step(model, output, z, gamma_t, change, fresh)


def ancestral_step(
    model: Model, output: Images, z: Images, gamma_t: PerImage, change: PerImage, noise: Images
) -> Images:
    """The step z_s = (α_s/α_t)(z_t − c σ_t ε̂) + √c σ_s ε, c = −expm1(γ_s − γ_t).

    Args:
      model: gives α, σ and ε̂.
      output: of the network at (z, γ_t).
      z: z_t.
      gamma_t: γ_t.
      change: γ_t − γ_s > 0, apart from γ_t since its relative accuracy becomes that of c.
      noise: ε.
    """
    path, t = model.path, model.schedule.at_pixels(gamma_t)
    change = model.schedule.pixel_change(gamma_t, change)
    s = t - change
    share = -jnp.expm1(-change)
    scale = jnp.exp(path.log_alpha(s) - path.log_alpha(t))
    mean = scale * (z - share * path.sigma(t) * model.noise(output, z, gamma_t))
    return mean + jnp.sqrt(share) * path.sigma(s) * noise


@functools.partial(jax.jit, static_argnums=(0, 1))
def _all_steps(model: Model, steps: int, parameters: Parameters, z: Images, keys: Key) -> Images:
    def one(done, z):
        return _one_step(model, steps, parameters, z, keys, steps - done)

    return jax.lax.fori_loop(0, steps, one, z)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decoded(decoder: Decoder, model: Model, z: Images, keys: Key):
    def one(image, key):
        return decoder(model, image[None], jax.random.fold_in(key, 0))[0]  # steps are 1..T

    return jax.vmap(one)(z, keys)


def _standard_normal(model: Model, keys: Key) -> Images:
    return jax.vmap(lambda key: jax.random.normal(key, model.pixels.shape))(keys)
