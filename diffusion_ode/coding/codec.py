"""Bits-back coding of images along the diffusion's chain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_ode.coding.chain import LatentChain, log_density
from diffusion_ode.coding.stack import ALTERED, BitStack, GridGaussian
from diffusion_ode.errors import UserError
from diffusion_ode.typing import Parameters

# Above the entropy of what is popped first: a draw may cost more than it does on average.
_RESERVE = 1.05
_RESERVE_BITS = 64

LARGEST_GROUP = 64
"""The network is compiled for all powers of two up to it."""
PLAIN = 0
"""In the place of a group's size: one image as it is."""


@dataclass(frozen=True)
class Coded:
    """Images as bits.

    Attributes:
      payload: the stack.
      groups: in their order; how many images were coded side by side, a power of two, or `PLAIN`.
      plain_bits: of the plain images.
      bound_nats: the T-step bound by the very draws that were coded, of the images but the plain
        ones: the payload without grids and without first bits.
    """

    payload: bytes
    groups: bytes
    plain_bits: float
    bound_nats: float

    @property
    def coded(self) -> int:
        """How many images are not plain."""
        return sum(self.groups)

    @property
    def net_bits(self) -> float:
        """What they take."""
        return 8 * len(self.payload) - self.plain_bits


@dataclass(frozen=True)
class BitsBackCodec:
    """Codes a sequence of images, each coded image lending its bits to the next ones' latents.

    Of an image z_0 ~ q(z_0|x) is popped and x pushed by p(x|z_0); for every step z_t ~ q(z_t|z_s)
    is popped and z_s pushed by p(z_s|z_t); at last z_T is pushed by the prior. What this adds to
    the stack is the T-step bound in expectation, and the stack need only hold the bits of about two
    latents at first: where it does not, an image is coded plainly. Groups of images grow with it.

    Args:
      chain: whose latents they are.
      parameters: of the network.

    Source: Townsend et al. 2019, arXiv:1901.04866 (bits back with ANS); Kingma et al. 2019,
    arXiv:1905.06845 (level by level); Kingma et al. 2021, arXiv:2107.00630, section 7.3.
    """

    chain: LatentChain
    parameters: Parameters

    def encode(self, images: np.ndarray, report: Callable[[int], None] = lambda _: None) -> Coded:
        """Codes levels [n, height, width, channels], n ≥ 1.

        Args:
          images: checked levels.
          report: told after each group how many images are done.
        """
        pixels = self.chain.model.pixels
        levels = images.reshape(len(images), -1).astype(np.int64)
        stack, groups, nats, done = BitStack(), [], 0.0, 0
        while done < len(levels):
            group = self._group(stack, len(levels) - done)
            if group == PLAIN:
                stack.push_plain(levels[done], pixels.levels)
            else:
                nats += self._push(stack, levels[done : done + group], len(levels) - done)
            groups.append(group)
            done += group or 1
            report(done)
        plain_bits = groups.count(PLAIN) * pixels.dimensions * np.log2(pixels.levels)
        return Coded(stack.to_bytes(), bytes(groups), float(plain_bits), nats)

    def decode(
        self,
        payload: bytes,
        groups: Sequence[int],
        report: Callable[[int], None] = lambda _: None,
    ) -> np.ndarray:
        """The images of a payload, [n, height, width, channels].

        Raises:
          UserError: the payload is damaged; what was not noticed here a checksum will tell.
        """
        pixels = self.chain.model.pixels
        stack = BitStack.of_bytes(payload)
        backwards: list[np.ndarray] = []
        done = 0
        for group in reversed(groups):
            done += group or 1
            if group == PLAIN:
                popped = stack.pop_plain(pixels.dimensions, pixels.levels)[None]
            else:
                popped = self._pop(stack, group, done)
            backwards.append(popped.astype(pixels.dtype))  # an eighth of the memory
            # Else the encoder would have gone another way: no payload keeps us busy for long.
            if self._group(stack, done) != group:
                raise UserError(ALTERED)
            report(done)
        if stack.to_bytes():
            raise UserError(ALTERED)
        levels = np.concatenate(backwards[::-1])
        return levels.reshape(-1, *pixels.shape)

    def _group(self, stack: BitStack, left: int) -> int:
        """The largest next group of the images left that there are bits for to begin with."""
        needed = self.chain.first_bits * self.chain.model.pixels.dimensions * _RESERVE
        room = min(int((stack.bits - _RESERVE_BITS) / needed), LARGEST_GROUP, left)
        return 1 << (room.bit_length() - 1) if room > 0 else PLAIN

    def _push(self, stack: BitStack, levels: np.ndarray, left: int) -> float:
        """Codes one group, when so many images were left; its nats by the densities themselves."""
        chain = self.chain
        nats = 0.0

        def draw(gaussian: GridGaussian, level: int) -> np.ndarray:
            nonlocal nats
            multiples = stack.draw(gaussian, self._number(left, level))
            nats += log_density(multiples * gaussian.grid, gaussian)
            return multiples

        def push(multiples: np.ndarray, gaussian: GridGaussian) -> None:
            nonlocal nats
            stack.push(multiples, gaussian)
            nats -= log_density(multiples * gaussian.grid, gaussian)

        nearer = draw(chain.encoded(levels.ravel()), 0)
        probabilities = chain.decoded(nearer * chain.levels[0].grid)
        stack.push_levels(levels.ravel(), probabilities)
        nats -= float(np.sum(np.log(probabilities[np.arange(levels.size), levels.ravel()])))
        for step in range(chain.steps):
            farther = draw(chain.forward(step, nearer * chain.levels[step].grid), step + 1)
            push(nearer, self._backward(step, farther, len(levels)))
            nearer = farther
        for multiples, gaussian in reversed(list(chain.last(len(levels)).blocks(nearer))):
            push(multiples, gaussian)
        return nats

    def _pop(self, stack: BitStack, size: int, left: int) -> np.ndarray:
        """Undoes `_push`, step by step backwards: the levels [size, N]."""
        chain = self.chain
        farther = chain.last(size).popped(stack.pop)
        for step in reversed(range(chain.steps)):
            nearer = stack.pop(self._backward(step, farther, size))
            forward = chain.forward(step, nearer * chain.levels[step].grid)
            stack.undraw(farther, forward, self._number(left, step + 1))
            farther = nearer
        levels = stack.pop_levels(chain.decoded(farther * chain.levels[0].grid))
        stack.undraw(farther, chain.encoded(levels), self._number(left, 0))
        return levels.reshape(size, -1)

    def _number(self, left: int, level: int) -> int:
        """Of a draw, among all of a file."""
        return left * len(self.chain.levels) + level

    def _backward(self, step: int, farther: np.ndarray, size: int) -> GridGaussian:
        """p(z_s|z_t) for a group."""
        z = farther * self.chain.levels[step + 1].grid
        noise = self.chain.noise(self.parameters, step, z.reshape(size, -1))
        return self.chain.backward(step, z, noise.ravel())
