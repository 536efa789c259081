"""A learned dequantisation: a small normalising flow from noise to a place within each bin."""

import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.dequantization import Start, UniformDequantization
from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.ranges import Blocks, Width
from diffusion_ode.typing import Images, Levels, Parameters, PerImage

_SHARPEST = 3.0  # bound of a component's log-sharpness, so that no step of training runs away


class ConditionalFlow(nn.Module):
    """A flow q(u | x) from ε ~ N(0, I) to u ∈ (0, 1)^N by couplings, conditioned on the image x.

    A coupling leaves half of the values as they are, as on a draughtboard, and maps each other one
    by y ↦ logit(Σ_k π_k sig((y − μ_k) e^{s_k})) e^a + b, where π, μ, s, a and b come of a network
    that sees x and the first half. The next one swaps the halves. A sigmoid ends it. All slopes are
    positive and known, and so is log q(u|x) = log N(ε) − Σ log slopes.

    Attributes:
      features: of the network.
      couplings: how many.
      components: of each mixture.

    Source: Ho et al. 2019 (Flow++), arXiv:1902.00275, sections 3.1 and 3.2; smaller than theirs.
    """

    features: Width = 32
    couplings: Blocks = 4
    components: Width = 4

    def __post_init__(self):
        check_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, noise: Images, x: Images) -> tuple[Images, PerImage]:
        """Places u and log q(u | x) in nats, from normal noise and encoded images."""
        _, height, width, channels = noise.shape
        context = nn.swish(nn.Conv(self.features, (3, 3), name="context0")(x))
        context = nn.swish(nn.Conv(self.features, (3, 3), name="context1")(context))
        places = sum(jnp.meshgrid(*map(jnp.arange, (height, width, channels)), indexing="ij"))
        h, log_q = noise, -0.5 * (squared_norm(noise) + noise[0].size * math.log(2.0 * math.pi))
        for i in range(self.couplings):
            stays = jnp.broadcast_to((places + i) % 2, h.shape).astype(h.dtype)
            told = jnp.concatenate([context, stays * h, stays], axis=-1)
            told = nn.swish(nn.Conv(self.features, (3, 3), name=f"hidden{i}")(told))
            count = 3 * self.components + 2
            zeros = nn.initializers.zeros
            raw = nn.Conv(channels * count, (3, 3), kernel_init=zeros, name=f"coupling{i}")(told)
            moved, log_slope = self._moved(h, raw.reshape(*h.shape, count))
            h = jnp.where(stays > 0.0, h, moved)
            log_q -= jnp.sum((1.0 - stays) * log_slope, axis=(1, 2, 3))
        log_q -= jnp.sum(nn.log_sigmoid(h) + nn.log_sigmoid(-h), axis=(1, 2, 3))
        return nn.sigmoid(h), log_q

    def _moved(self, h, raw):
        """Each value's image, and the logarithm of the slope there."""
        k = self.components
        logits, centres, sharpness, (scale, shift) = (
            *jnp.split(raw[..., : 3 * k], 3, axis=-1),
            jnp.moveaxis(raw[..., 3 * k :], -1, 0),
        )
        log_share = nn.log_softmax(logits)
        sharpness = _SHARPEST * jnp.tanh(sharpness / _SHARPEST)
        # Apart from each other, or all would learn the same.
        centres = centres + jnp.linspace(-1.0, 1.0, k)
        inner = (h[..., None] - centres) * jnp.exp(sharpness)
        below, above = nn.log_sigmoid(inner), nn.log_sigmoid(-inner)
        log_below, log_above, log_density = (
            jax.nn.logsumexp(log_share + part, axis=-1)
            for part in (below, above, below + above + sharpness)
        )
        moved = (log_below - log_above) * jnp.exp(scale) + shift
        return moved, log_density - log_below - log_above + scale


def placed_by_flow(
    flow: ConditionalFlow, parameters: Parameters, model: Model, levels: Levels, noise: Images
) -> Start:
    """A start z = α0 ((2(k + u))/V − 1) with u by the flow, and −log q(z|k) in the log-weight."""
    u, log_q = cast(Any, flow.apply({"params": parameters}, noise, model.pixels.encode(levels)))
    start = UniformDequantization().start(model, levels, u)
    return start._replace(log_weight=start.log_weight - log_q)
