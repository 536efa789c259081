"""A stack of bits onto which Gaussians on a grid, categories and uniforms are coded.

Pushing what was popped, or popping what was pushed, by the same model leaves the stack as it was:
that is what bits come back by. The entropy coder is `constriction`'s asymmetric numeral systems
(Duda et al. 2015; Bamler 2022, arXiv:2201.01741), with probabilities of 24 bits.

Bits are random draws only if they look random, and the top of the stack does not: the next quantile
to be popped is that of the value pushed last, and a model that is not the truth leaves its errors
in all of them. A latent's deviation would be handed from step to step, and grow. So before a
draw the words on top are added to a fixed pseudo-random sequence, mod 2, as a one-time pad is.
"""

import importlib
from dataclasses import dataclass

import numpy as np

from diffusion_ode.errors import UserError

# Standard deviations on either side of the mean. A draw is never further: every multiple in the
# window has 2^-24 of the probability at least, so a wide one would give draws that no Gaussian has.
_DRAWN = 6.5
_PUSHED = 10.0  # further out an escape, which costs seven bytes
_ESCAPE = 1 << 16  # of two digits to this base
_WORD = np.dtype("<u4")
_TOP = 1 << 16  # words that the coder is left with
_SPARE = 8  # words besides those of the symbols: the coder's state takes two

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
        try:  # only whoever codes needs it
            stream = importlib.import_module("constriction").stream
        except ImportError:
            raise UserError(
                "Coding needs the library constriction, which is not installed: pip install"
                " constriction."
            ) from None

        self._model = stream.model
        self._new = stream.stack.AnsCoder
        words = np.zeros(0, np.uint32) if words is None else words
        # The coder holds the top alone, as a pad takes it out and puts it back.
        self._below = [words[:-_TOP]] if len(words) > _TOP else []
        self._coder = self._new(words[-_TOP:])

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
        words = np.concatenate([*self._below, self._coder.get_compressed()])
        return words.astype(_WORD).tobytes()

    @property
    def bits(self) -> int:
        """How many are on it."""
        below = sum(map(len, self._below))
        return 8 * _WORD.itemsize * below + self._coder.num_valid_bits()

    def draw(self, gaussian: GridGaussian, number: int) -> np.ndarray:
        """Pops multiples of the grid, int64 [n], which are as random draws are.

        Args:
          gaussian: that they are drawn from.
          number: of this draw: each has another pad.
        """
        self._pad(gaussian.mean.size, number)
        offset = self._coder.decode(*self._parameters(gaussian, _DRAWN))
        return gaussian.centre + offset.astype(np.int64)

    def undraw(self, multiples: np.ndarray, gaussian: GridGaussian, number: int) -> None:
        """The inverse of `draw`.

        Raises:
          UserError: the multiples were not drawn from this.
        """
        offset = multiples - gaussian.centre
        if np.any(np.abs(offset) > gaussian.window(_DRAWN)):
            raise UserError(ALTERED)
        parameters = self._parameters(gaussian, _DRAWN)
        self._coder.encode_reverse(offset.astype(np.int32), *parameters)
        self._pad(offset.size, number)

    def push(self, multiples: np.ndarray, gaussian: GridGaussian) -> None:
        """Multiples of the grid, int64 [n], however far they are from their means."""
        window = gaussian.window(_PUSHED)
        offset = multiples - gaussian.centre
        outside = np.abs(offset) >= window
        if outside.any():
            high, low = np.divmod(np.abs(offset[outside]) - window, _ESCAPE)
            self._push_uniform(low, _ESCAPE)
            self._push_uniform(high, _ESCAPE)
        symbols = np.clip(offset, -window, window).astype(np.int32)
        self._coder.encode_reverse(symbols, *self._parameters(gaussian, _PUSHED))
        self._cover()

    def pop(self, gaussian: GridGaussian) -> np.ndarray:
        """The inverse of `push`."""
        self._uncover(gaussian.mean.size)
        offset = self._coder.decode(*self._parameters(gaussian, _PUSHED)).astype(np.int64)
        outside = np.abs(offset) >= gaussian.window(_PUSHED)
        if outside.any():
            count = int(outside.sum())
            excess = self._pop_uniform(count, _ESCAPE) * _ESCAPE + self._pop_uniform(count, _ESCAPE)
            offset[outside] += np.sign(offset[outside]) * excess
        return gaussian.centre + offset

    def push_levels(self, levels: np.ndarray, probabilities: np.ndarray) -> None:
        """Levels [n] by their probabilities [n, V]."""
        self._coder.encode_reverse(levels.astype(np.int32), self._categorical(), probabilities)
        self._cover()

    def pop_levels(self, probabilities: np.ndarray) -> np.ndarray:
        """The inverse of `push_levels`."""
        self._uncover(len(probabilities))
        return self._coder.decode(self._categorical(), probabilities).astype(np.int64)

    def push_plain(self, levels: np.ndarray, number: int) -> None:
        """Levels [n] below a number, all as probable: what the first bits are made of."""
        self._push_uniform(levels, number)

    def pop_plain(self, count: int, number: int) -> np.ndarray:
        """The inverse of `push_plain`."""
        return self._pop_uniform(count, number)

    def _pad(self, symbols: int, number: int) -> None:
        """Adds the pad to what so many symbols are popped from, or takes it away again."""
        self._uncover(symbols)
        words = self._coder.get_compressed()
        # The top word is not padded: it holds how full the coder's state is.
        top = words[-1 - symbols : -1]
        top ^= np.random.Philox(key=number).random_raw(len(top)).astype(np.uint32)
        self._coder = self._new(words)

    def _uncover(self, symbols: int) -> None:
        """Gives the coder what so many symbols are popped from: of each one word at most."""
        needed = symbols + _SPARE
        if self._below and self._coder.num_words() < needed:
            parts = [self._coder.get_compressed()]
            while self._below and sum(map(len, parts)) < needed:
                parts.append(self._below.pop())
            self._coder = self._new(np.concatenate(parts[::-1]))

    def _cover(self) -> None:
        """Takes from the coder what lies far below, once that is much."""
        if self._coder.num_words() > 2 * _TOP:
            words = self._coder.get_compressed()
            self._below.append(words[:-_TOP])
            self._coder = self._new(words[-_TOP:])

    def _push_uniform(self, values: np.ndarray, number: int) -> None:
        self._coder.encode_reverse(values.astype(np.int32), self._model.Uniform(number))
        self._cover()

    def _pop_uniform(self, count: int, number: int) -> np.ndarray:
        self._uncover(count)
        return self._coder.decode(self._model.Uniform(number), count).astype(np.int64)

    def _parameters(self, gaussian: GridGaussian, deviations: float):
        window = gaussian.window(deviations)
        mean = gaussian.mean / gaussian.grid - gaussian.centre
        std = np.full(mean.shape, gaussian.std / gaussian.grid)
        return self._model.QuantizedGaussian(-window, window), mean, std

    def _categorical(self):
        return self._model.Categorical(perfect=False)
