"""Bits-back coding of images along the diffusion's chain."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_ode.coding.chain import Chain, log_density
from diffusion_ode.coding.stack import BitStack, GridGaussian
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.errors import UserError
from diffusion_ode.typing import Parameters

# Above the entropy of what is popped first: a draw may cost more than it does on average.
_RESERVE = 1.05
_RESERVE_BITS = 64


@dataclass(frozen=True)
class Coded:
    """Images as bits.

    Attributes:
      payload: the stack.
      plain: how many images at the end lie at its bottom as they are, the first bits of the others.
      groups: how many images were coded side by side, group by group; powers of two but the last.
      bound_nats: the T-step bound by the very draws that were coded, of the images but the plain
        ones: the payload without grids and without first bits.
    """

    payload: bytes
    plain: int
    groups: tuple[int, ...]
    bound_nats: float


@dataclass(frozen=True)
class BitsBackCodec:
    """Codes a sequence of images, each coded image lending its bits to the next ones' latents.

    Of an image z_0 ~ q(z_0|x) is popped and x pushed by p(x|z_0); for every step z_t ~ q(z_t|z_s)
    is popped and z_s pushed by p(z_s|z_t); at last z_T is pushed by the prior. What this adds to
    the stack is the T-step bound in expectation, and the stack need only hold the bits of z_0 and
    z_1 at first: the last images give them, coded plainly. Groups of images grow with the stack.

    Args:
      chain: whose latents they are.
      parameters: of the network.
      largest_group: images side by side; the network is compiled for all powers of two up to it.

    Source: Townsend et al. 2019, arXiv:1901.04866 (bits back with ANS); Kingma et al. 2019,
    arXiv:1905.06845 (level by level); Kingma et al. 2021, arXiv:2107.00630, section 7.3.
    """

    chain: Chain
    parameters: Parameters
    largest_group: int = 64

    def encode(self, images: np.ndarray, report: Callable[[int], None] = lambda _: None) -> Coded:
        """Codes levels [n, height, width, channels], n ≥ 1.

        Args:
          images: checked levels.
          report: told after each group how many images are done.
        """
        pixels = self.chain.model.pixels
        levels = images.reshape(len(images), -1).astype(np.int64)
        stack, plain = BitStack(), 0
        while plain < len(levels) and self._room(stack) < 1:
            plain += 1
            masked = levels[len(levels) - plain] + _mask(plain, pixels)
            stack.push_plain(masked % pixels.levels, pixels.levels)
        done, groups, nats = 0, [], 0.0
        rest = len(levels) - plain
        while done < rest:
            size = min(self._room(stack), rest - done)
            size = size if size == rest - done else 1 << (size.bit_length() - 1)
            nats += self._push(stack, levels[done : done + size])
            groups.append(size)
            done += size
            report(done)
        return Coded(stack.to_bytes(), plain, tuple(groups), nats)

    def decode(
        self,
        payload: bytes,
        plain: int,
        groups: Sequence[int],
        report: Callable[[int], None] = lambda _: None,
    ) -> np.ndarray:
        """The images of a payload, [n, height, width, channels].

        Raises:
          UserError: the payload is damaged; what was not noticed here a checksum will tell.
        """
        pixels = self.chain.model.pixels
        stack = BitStack.of_bytes(payload)
        decoded: list[np.ndarray] = []
        for size in reversed(groups):
            decoded.insert(0, self._pop(stack, size))
            report(sum(map(len, decoded)))
        for number in range(plain, 0, -1):
            masked = stack.pop_plain(pixels.dimensions, pixels.levels)
            decoded.append((masked - _mask(number, pixels))[None] % pixels.levels)
        if stack.bits:
            raise UserError("The file's payload is altered: get the file anew.")
        return np.concatenate(decoded).reshape(-1, *pixels.shape).astype(pixels.dtype)

    def _room(self, stack: BitStack) -> int:
        """How many images the bits on the stack suffice for to begin with."""
        needed = self.chain.first_bits() * self.chain.model.pixels.dimensions * _RESERVE
        return min(int((stack.bits - _RESERVE_BITS) / needed), self.largest_group)

    def _push(self, stack: BitStack, levels: np.ndarray) -> float:
        """Codes one group; the nats of it by the densities themselves."""
        chain = self.chain
        x = (2.0 * levels + 1.0) / chain.model.pixels.levels - 1.0
        nats = 0.0

        def pop(gaussian: GridGaussian) -> np.ndarray:
            nonlocal nats
            multiples = stack.pop_gaussian(gaussian)
            nats += log_density(multiples * gaussian.grid, gaussian)
            return multiples

        def push(multiples: np.ndarray, gaussian: GridGaussian) -> None:
            nonlocal nats
            stack.push_gaussian(multiples, gaussian)
            nats -= log_density(multiples * gaussian.grid, gaussian)

        nearer = pop(chain.encoded(x.ravel()))
        probabilities = chain.decoded(nearer * chain.levels[0].grid)
        stack.push_levels(levels.ravel(), probabilities)
        nats -= float(np.sum(np.log(probabilities[np.arange(levels.size), levels.ravel()])))
        for step in range(chain.steps):
            farther = pop(chain.forward(step, nearer * chain.levels[step].grid))
            push(nearer, self._backward(step, farther, len(levels)))
            nearer = farther
        push(nearer, chain.prior(nearer.size))
        return nats

    def _pop(self, stack: BitStack, size: int) -> np.ndarray:
        """Undoes `_push`, step by step backwards: the levels [size, N]."""
        chain = self.chain
        farther = stack.pop_gaussian(chain.prior(size * chain.model.pixels.dimensions))
        for step in reversed(range(chain.steps)):
            nearer = stack.pop_gaussian(self._backward(step, farther, size))
            stack.push_gaussian(farther, chain.forward(step, nearer * chain.levels[step].grid))
            farther = nearer
        levels = stack.pop_levels(chain.decoded(farther * chain.levels[0].grid))
        x = (2.0 * levels + 1.0) / chain.model.pixels.levels - 1.0
        stack.push_gaussian(farther, chain.encoded(x))
        return levels.reshape(size, -1)

    def _backward(self, step: int, farther: np.ndarray, size: int) -> GridGaussian:
        """p(z_s|z_t) for a group, by the program for the next power of two of images."""
        z = (farther * self.chain.levels[step + 1].grid).reshape(size, -1)
        padded = np.zeros((1 << (size - 1).bit_length(), z.shape[1]))
        padded[:size] = z
        noise = self.chain.noise(self.parameters, step, padded)[:size]
        return self.chain.backward(step, z.ravel(), noise.ravel())


def _mask(number: int, pixels: Pixels) -> np.ndarray:
    """What plain levels are shifted by: latents are drawn from their bits, which must look random.

    A run of equal pixels would be a run of equal draws.
    """
    words = np.random.Philox(key=number).random_raw(pixels.dimensions)
    return (words % np.uint64(pixels.levels)).astype(np.int64)


def group_sizes(counts: Sequence[int], last: int) -> Iterator[int]:
    """Group sizes from how many there are of each power of two, and the last group's."""
    for power, count in enumerate(counts):
        yield from [1 << power] * count
    if last:
        yield last
