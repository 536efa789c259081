"""A stack of bits onto which Gaussians on a grid, categories and uniforms are coded.

Pushing what was popped, or popping what was pushed, by the same model leaves the stack as it was:
that is what bits come back by. The entropy coder is `constriction`'s asymmetric numeral systems
(Duda et al. 2015; Bamler 2022, arXiv:2201.01741), with probabilities of 24 bits.

What was pushed last is on top, and whatever is popped next begins with that very quantile. So
draws are popped in the order of their entries and all else is pushed with the last entry on top:
were it the first, a latent's deviation would be handed from step to step, and grow.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_ode.errors import UserError

# Standard deviations on either side of the mean. A draw is never further: every multiple in the
# window has 2^-24 of the probability at least, so a wide one would give draws that no Gaussian has.
_DRAWN = 6.5
_PUSHED = 10.0  # further out an escape, which costs seven bytes
_ESCAPE = 1 << 16  # of two digits to this base
_WORD = np.dtype("<u4")

ALTERED = "The file's payload is altered: get the file anew."


@dataclass(frozen=True)
class GridGaussian:
    """Normals N(mean, std²) over the integer multiples of a grid.

    Attributes:
      mean: float64 [n].
      std: of all of them.
      grid: the distance between two neighbours.
    """

    mean: np.ndarray
    std: float
    grid: float

    @property
    def centre(self) -> np.ndarray:
        """The multiple that is nearest to each mean, int64 [n]."""
        return np.rint(self.mean / self.grid).astype(np.int64)

    def window(self, deviations: float) -> int:
        """The same number of standard deviations in steps of the grid."""
        return int(np.ceil(deviations * self.std / self.grid)) + 1

    @property
    def bits(self) -> float:
        """The entropy of one draw."""
        return float(np.log2(self.std / self.grid * np.sqrt(2.0 * np.pi * np.e)))


class BitStack:
    """The stack; see the module.

    Args:
      words: what is on it, uint32 [n], the bottom first.
    """

    def __init__(self, words: np.ndarray | None = None):
        import constriction  # only whoever codes needs it

        self._model = constriction.stream.model
        start = np.zeros(0, np.uint32) if words is None else np.ascontiguousarray(words, np.uint32)
        self._coder = constriction.stream.stack.AnsCoder(start)

    @classmethod
    def of_bytes(cls, data: bytes) -> "BitStack":
        """The stack that `to_bytes` wrote.

        Raises:
          UserError: the bytes are no stack.
        """
        if len(data) % _WORD.itemsize or (data and not any(data[-_WORD.itemsize :])):
            raise UserError(ALTERED)
        return cls(np.frombuffer(data, _WORD).astype(np.uint32))

    def to_bytes(self) -> bytes:
        """All of it, in words of 32 bits."""
        return self._coder.get_compressed().astype(_WORD).tobytes()

    @property
    def bits(self) -> int:
        """How many are on it."""
        return self._coder.num_valid_bits()

    def draw(self, gaussian: GridGaussian) -> np.ndarray:
        """Pops multiples of the grid, int64 [n]: of random bits, they are random draws."""
        offset = self._coder.decode(*self._parameters(gaussian, _DRAWN))
        return gaussian.centre + offset.astype(np.int64)

    def undraw(self, multiples: np.ndarray, gaussian: GridGaussian) -> None:
        """The inverse of `draw`.

        Raises:
          UserError: the multiples were not drawn from this.
        """
        offset = multiples - gaussian.centre
        if np.any(np.abs(offset) > gaussian.window(_DRAWN)):
            raise UserError(ALTERED)
        parameters = self._parameters(gaussian, _DRAWN)
        self._coder.encode_reverse(offset.astype(np.int32), *parameters)

    def push(self, multiples: np.ndarray, gaussian: GridGaussian) -> None:
        """Multiples of the grid, int64 [n], however far they are from their means."""
        window = gaussian.window(_PUSHED)
        offset = (multiples - gaussian.centre)[::-1]
        outside = np.abs(offset) >= window
        if outside.any():
            high, low = np.divmod(np.abs(offset[outside]) - window, _ESCAPE)
            self._push_uniform(low, _ESCAPE)
            self._push_uniform(high, _ESCAPE)
        symbols = np.clip(offset, -window, window).astype(np.int32)
        self._coder.encode_reverse(symbols, *self._turned(gaussian))

    def pop(self, gaussian: GridGaussian) -> np.ndarray:
        """The inverse of `push`."""
        offset = self._coder.decode(*self._turned(gaussian)).astype(np.int64)
        outside = np.abs(offset) >= gaussian.window(_PUSHED)
        if outside.any():
            count = int(outside.sum())
            excess = self._pop_uniform(count, _ESCAPE) * _ESCAPE + self._pop_uniform(count, _ESCAPE)
            offset[outside] += np.sign(offset[outside]) * excess
        return gaussian.centre + offset[::-1]

    def push_levels(self, levels: np.ndarray, probabilities: np.ndarray) -> None:
        """Levels [n] by their probabilities [n, V]."""
        turned = np.ascontiguousarray(probabilities[::-1])
        self._coder.encode_reverse(levels[::-1].astype(np.int32), self._categorical(), turned)

    def pop_levels(self, probabilities: np.ndarray) -> np.ndarray:
        """The inverse of `push_levels`."""
        turned = np.ascontiguousarray(probabilities[::-1])
        return self._coder.decode(self._categorical(), turned).astype(np.int64)[::-1]

    def push_plain(self, levels: np.ndarray, number: int) -> None:
        """Levels [n] below a number, all as probable: what the first bits are made of."""
        self._push_uniform(levels, number)

    def pop_plain(self, count: int, number: int) -> np.ndarray:
        """The inverse of `push_plain`."""
        return self._pop_uniform(count, number)

    def _push_uniform(self, values: np.ndarray, number: int) -> None:
        self._coder.encode_reverse(values.astype(np.int32), self._model.Uniform(number))

    def _pop_uniform(self, count: int, number: int) -> np.ndarray:
        return self._coder.decode(self._model.Uniform(number), count).astype(np.int64)

    def _turned(self, gaussian: GridGaussian):
        """The parameters with the last entry first."""
        turned = GridGaussian(gaussian.mean[::-1], gaussian.std, gaussian.grid)
        return self._parameters(turned, _PUSHED)

    def _parameters(self, gaussian: GridGaussian, deviations: float):
        window = gaussian.window(deviations)
        mean = gaussian.mean / gaussian.grid - gaussian.centre
        std = np.full(mean.shape, gaussian.std / gaussian.grid)
        return self._model.QuantizedGaussian(-window, window), mean, std

    def _categorical(self):
        return self._model.Categorical(perfect=False)
