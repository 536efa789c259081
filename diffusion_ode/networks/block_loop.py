"""How a network goes through its equal blocks: one after the other, or by a compiled loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.backend import loops_are_fast

Block = Callable[[Any, Any], Any]
"""(weights, input) → output."""


@runtime_checkable
class BlockLoop(Protocol):
    """Runs blocks that differ only in their weights; the values are the same to rounding.

    The weights come as one tree per block, as the parameters are named; a loop that wants them
    otherwise arranges them itself, so checkpoints do not depend on it.
    """

    def down(self, block: Block, h, weights: Sequence[Any]) -> tuple[Any, Any]:
        """The last output, and what `up` takes: the input and all outputs."""
        ...

    def up(self, block: Block, h, weights: Sequence[Any], kept: Any) -> Any:
        """The last output; each block has the next of `kept`, the last one first, beside h."""
        ...


@dataclass(frozen=True)
class Unrolled:
    """Every block compiled on its own: the longest to compile, the fastest on CPUs."""

    def down(self, block, h, weights):
        kept = [h]
        for own in weights:
            h = block(own, h)
            kept.append(h)
        return h, kept

    def up(self, block, h, weights, kept):
        for own, beside in zip(weights, reversed(kept), strict=True):
            h = block(own, jnp.concatenate([h, beside], axis=-1))
        return h


@dataclass(frozen=True)
class Scanned:
    """One block compiled, and a loop over it: its time to compile is the same for any number."""

    def down(self, block, h, weights):
        def step(h, own):
            h = block(own, h)
            return h, h

        last, outputs = jax.lax.scan(step, h, _stacked(weights))
        return last, jnp.concatenate([h[None], outputs])

    def up(self, block, h, weights, kept):
        def step(h, own_and_beside):
            own, beside = own_and_beside
            return block(own, jnp.concatenate([h, beside], axis=-1)), None

        # From the last kept one to the first, without a reversed copy of them.
        return jax.lax.scan(step, h, (_stacked(weights[::-1]), kept), reverse=True)[0]


@dataclass(frozen=True)
class ByPlatform:
    """Scanned where loops are fast, else unrolled."""

    def down(self, block, h, weights):
        return self._chosen().down(block, h, weights)

    def up(self, block, h, weights, kept):
        return self._chosen().up(block, h, weights, kept)

    def _chosen(self) -> Unrolled | Scanned:
        return Scanned() if loops_are_fast() else Unrolled()


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
