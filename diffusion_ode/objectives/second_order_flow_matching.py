"""Flow matching with a bound on the error of the divergence."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.model import along_images, squared_norm
from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes, TimeSampler
from diffusion_ode.diffusion.weighting import LikelihoodWeighting, Weighting
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.flow_matching import diffusion_weight, draw_flow, weighted_terms
from diffusion_ode.objectives.trace_residual import Identity, IndependentProbes, TraceResidual
from diffusion_ode.ranges import Count, NonNegative


@dataclass(frozen=True)
class SecondOrderFlowMatching:
    """First-order loss + λ · (w · ½a²/p) · R²/N per image, for fine-tuning.

    At the optimum `σ tr J* = kN − a E‖output − output*‖²` (VP velocity: k = a = α; SP: k = 1/√2,
    a = √2 α). R is the difference of both sides with this batch's error in place of the
    expectation, N the number of dimensions.

    Args:
      times: how γ is drawn.
      weight: λ.
      residual: how R² is estimated; this decides what is learned. `SingleProbe` is published, but
        also presses off-diagonal entries of the Jacobian towards zero.
      every: k; the second term is taken on every k-th image and counts k-fold. Its mean stays what
        it is and its variance grows; with one probe a step costs about 1 + 1/k first-order ones
        instead of 2.
      weighting: w, of both terms; 1 by default.

    Source: Zheng et al. 2023, arXiv:2305.03935, theorem 3.3 and appendix D.
    """

    traced: ClassVar = ("weight", "residual")
    times: TimeSampler = field(default_factory=ImportanceSampledTimes)
    weight: NonNegative = 0.1
    residual: TraceResidual = field(default_factory=IndependentProbes)
    every: Count = 1
    weighting: Weighting = field(default_factory=LikelihoodWeighting)

    __post_init__ = check_fields

    @property
    def is_bound(self) -> bool:
        """Whether the loss is that of the first order alone, under the likelihood's weighting."""
        return self.weight == 0.0 and self.weighting.is_bound

    def directions(self, model):
        shape = (1, *model.pixels.shape)
        probes = jax.eval_shape(
            lambda key: self.residual.draw_probes(key, shape), jax.random.key(0)
        )
        return (len(probes) or model.pixels.dimensions) / self.every

    def draw(self, model, images, key, times_state):
        flow_key, probe_key = jax.random.split(key)
        probes = self.residual.draw_probes(probe_key, images.shape)
        return draw_flow(model, images, flow_key, times_state, self.times, probes)

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        x = model.pixels.encode(images)
        z = model.noised(x, draws.gamma, draws.noise)
        target = model.target(x, draws.gamma, draws.noise)
        chosen, others = self._divided((z, target, draws.gamma, flag, draws.probes))
        output, squared = self._residual(model, parameters, dropout_key, *chosen)
        if self.every > 1:
            z, _, gamma, flag, _ = others
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, 1)
            first_order_only = model.predict(parameters, z, gamma, flag, key)
            output = self._joined(output, first_order_only)
            squared = self._joined(self.every * squared, jnp.zeros_like(gamma))

        weight = diffusion_weight(model, draws)
        diffusion = weight * squared_norm(output - target)
        second = weight * squared / model.pixels.dimensions
        loss = diffusion + self.weight * second
        return weighted_terms(
            self.weighting, model, images, draws, diffusion, loss=loss, second_order=second
        )

    def _residual(self, model, parameters, dropout_key, z, target, gamma, flag, probes):
        """The network's output and R², in one pass over the network."""

        def network(noised):
            return model.predict(parameters, noised, gamma, flag, dropout_key)

        at = along_images(gamma)
        identity = Identity(
            sigma=model.path.sigma(at),
            offset=model.parameterization.trace_offset(model.path, at),
            gain=model.parameterization.gain(model.path, at),
        )
        return self.residual.estimate(network, z, target, identity, probes)

    def _divided(self, per_image):
        """Every k-th image, so that low-discrepancy times stay spread; and the others."""
        number = len(per_image[0])
        if number % self.every:
            raise UserError(
                f"every = {self.every} does not divide the {number} images that are differentiated"
                " at once (train.batch_size / train.accumulation): choose a divisor."
            )
        rows = jax.tree.map(lambda a: a.reshape(-1, self.every, *a.shape[1:]), per_image)
        others = jax.tree.map(lambda a: a[:, 1:].reshape(-1, *a.shape[2:]), rows)
        return jax.tree.map(lambda a: a[:, 0], rows), others

    def _joined(self, chosen, others):
        """What `_divided` has taken apart, in the order of the batch."""
        others = others.reshape(-1, self.every - 1, *others.shape[1:])
        return jnp.concatenate([chosen[:, None], others], axis=1).reshape(-1, *chosen.shape[1:])
