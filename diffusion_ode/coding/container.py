"""Images as one file, which its reader can trust or refuse.

    magic 4 · checksum of all that follows 4 · checksum of the images 4 · parameters' digest 6 ·
    machine 4 · numbers 4 · then whole numbers of 7 bits a byte: jax 3, jaxlib 3, shape 3, levels,
    T, fineness, how many losses · a byte of each · how many runs of equal groups,
    and of each 8 (how many groups − 1) + their kind · payload

Decoding needs the very floats of encoding, so everything that they depend on is compared before it
begins; the model's answer to a fixed input stands for all that has no name.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np

from diffusion_ode.checkpoints.digest import digest
from diffusion_ode.coding import losses
from diffusion_ode.coding.chain import LatentChain
from diffusion_ode.coding.codec import LARGEST_GROUP, PLAIN, BitsBackCodec, Coded
from diffusion_ode.coding.environment import Environment
from diffusion_ode.coding.settings import FINENESS_UNIT, MOST_STEPS, CodecSettings
from diffusion_ode.diffusion.model import Model
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import refused
from diffusion_ode.typing import Parameters

MAGIC = b"dOC\x01"
"""The last byte is the format's version."""
_FIXED = struct.Struct("<4sII6sII")
_CHECKED_FROM = 8  # the first byte after the checksum
_KINDS = LARGEST_GROUP.bit_length() + 1  # of groups: plain, and the powers of two
_NUMBER_BYTES = 5  # of a whole number at most: 35 bits
# At most so many images a byte, and values of their pixels: hardly one takes so little of a bit.
# Few are let pass, since black ones take nothing where nothing comes before them.
_PER_BYTE, _FEW = 4, 1 << 16
_VALUES_PER_BYTE, _SMALL = 4096, 1 << 26
_MOST_RUNS = 1 << 16  # groups keep their size once there are bits for the largest
MAX_BYTES = 1 << 29
"""Of a file that is read, which takes four times as much memory."""
MAX_IMAGE_BYTES = MAX_BYTES >> 1
"""Of the images that go into one: a model that fits them ill makes it larger than they are."""
DAMAGED = "The file is cut off or altered: get it anew."


@dataclass(frozen=True)
class Header:
    """What a file says before its payload; the fields are those of the module's drawing."""

    images: int
    parameters: bytes
    environment: Environment
    numbers: int
    shape: tuple[int, ...]
    levels: int
    steps: int
    fineness: int
    losses: bytes
    groups: bytes

    @property
    def count(self) -> int:
        """How many images there are."""
        return int(np.maximum(np.frombuffer(self.groups, np.uint8), 1).sum(dtype=np.int64))


@dataclass(frozen=True)
class Compressed:
    """A file, and how it came about.

    Attributes:
      data: the file.
      coded: its payload and what it was to take.
    """

    data: bytes
    coded: Coded


def compress(
    model: Model,
    parameters: Parameters,
    images: np.ndarray,
    settings: CodecSettings,
    report: Callable[[int], None] = lambda _: None,
) -> Compressed:
    """The file of images.

    Args:
      model, parameters: with which alone it can be read.
      images: levels [n, h, w, c], or one image.
      settings: of the code.
      report: told how many images are done.

    Raises:
      UserError: there are no images, or they are not the model's.
    """
    if not isinstance(settings, CodecSettings):
        raise UserError(f"settings = {settings!r} are none: give CodecSettings(steps=200), say.")
    images = model.pixels.check(images).reshape(-1, *model.pixels.shape)
    if not len(images):
        raise UserError("There are no images to compress: give at least one.")
    parameters = _on_one_device(parameters)
    found = losses.ANCESTRAL if settings.ancestral else losses.measured(model, parameters, images)
    chain = LatentChain.over(model, settings.steps, found, settings.fineness)
    coded = BitsBackCodec(chain, parameters).encode(images, report)
    header = Header(
        images=_checksum(images.astype(model.pixels.dtype)),
        parameters=_digest(parameters),
        environment=Environment.here(),
        numbers=chain.fingerprint(parameters, max(coded.groups)),
        shape=tuple(model.pixels.shape),
        levels=model.pixels.levels,
        steps=settings.steps,
        fineness=round(settings.fineness * FINENESS_UNIT),
        losses=found,
        groups=coded.groups,
    )
    return Compressed(pack(header, coded.payload), coded)


def decompress(
    model: Model,
    parameters: Parameters,
    data: bytes,
    report: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """The images of a file, [n, h, w, c]; all of them, every byte as it was, or none.

    Raises:
      UserError: the file is damaged, of another model, or of another machine.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UserError(
            f"data is a {type(data).__name__}: give the bytes of a file, Path(…).read_bytes()."
        )
    with refused(
        lambda why: (
            f"The file cannot be decoded ({why}): get it anew, and read it where it was written."
        )
    ):
        return _decompressed(model, parameters, data, report)


def _decompressed(
    model: Model, parameters: Parameters, data: bytes, report: Callable[[int], None]
) -> np.ndarray:
    header, payload = unpack(data)
    pixels = model.pixels
    if (header.shape, header.levels) != (tuple(pixels.shape), pixels.levels):
        raise UserError(
            f"The file holds images of shape {header.shape} with {header.levels} levels, but the"
            f" model is for {tuple(pixels.shape)} with {pixels.levels}: give the model that wrote"
            " the file."
        )
    difference = header.environment.difference(Environment.here())
    if difference:
        raise UserError(
            f"The file was written {difference}, where the network's last bits may be others: read"
            " it where it was written."
        )
    parameters = _on_one_device(parameters)
    if header.parameters != _digest(parameters):
        raise UserError(
            "The file was written with other parameters than these: give the checkpoint that wrote"
            " it."
        )
    chain = LatentChain.over(model, header.steps, header.losses, header.fineness / FINENESS_UNIT)
    if header.numbers != chain.fingerprint(parameters, max(header.groups)):
        raise UserError(
            "The model computes other numbers here than where the file was written, so its path,"
            " schedule, prior or parameterisation is another, or the machine is: read it as it was"
            " written."
        )
    images = BitsBackCodec(chain, parameters).decode(payload, header.groups, report)
    if _checksum(images) != header.images:
        raise UserError(
            "The decoded images are not those that were written, as their checksum differs, and"
            " none is given: get the file anew, and read it where it was written."
        )
    return images


def pack(header: Header, payload: bytes) -> bytes:
    """The file."""
    here = header.environment
    runs = [(len(list(run)), _kind(group)) for group, run in itertools.groupby(header.groups)]
    numbers = [*here.jax, *here.jaxlib, *header.shape, header.levels, header.steps]
    numbers += [header.fineness, len(header.losses)]
    rest = b"".join(map(_written, numbers)) + header.losses + _written(len(runs))
    rest += b"".join(_written((many - 1) * _KINDS + kind) for many, kind in runs) + payload
    fixed = (header.images, header.parameters, here.machine, header.numbers)
    checked = _FIXED.pack(MAGIC, 0, *fixed)[_CHECKED_FROM:] + rest
    return MAGIC + struct.pack("<I", zlib.crc32(checked)) + checked


def unpack(data: bytes) -> tuple[Header, bytes]:
    """Header and payload.

    Raises:
      UserError: it is no such file, or a damaged one.
    """
    if data[:3] != MAGIC[:3]:
        raise UserError("The file was not written by compressing: give one that was.")
    if data[:4] != MAGIC:
        raise UserError(
            f"The file's format is not version {MAGIC[3]}: read it with the program that wrote it."
        )
    if len(data) < _FIXED.size or zlib.crc32(data[_CHECKED_FROM:]) != _FIXED.unpack_from(data)[1]:
        raise UserError(DAMAGED)
    _, _, images, parameters, machine, numbers = _FIXED.unpack_from(data)
    # Whoever forges a file can forge its checksum: nothing is believed that asks for memory.
    rest = iter(data[_FIXED.size :])
    jax_, jaxlib, shape = (tuple(_read(rest) for _ in range(3)) for _ in range(3))
    levels, steps, fineness, parts = (_read(rest) for _ in range(4))
    found = bytes(itertools.islice(rest, parts))
    most = max(_FEW, _PER_BYTE * len(data))
    groups = _groups(
        rest, min(most, max(_SMALL, _VALUES_PER_BYTE * len(data)) // max(1, math.prod(shape)))
    )
    payload = bytes(rest)
    settings_fit = 1 <= steps <= MOST_STEPS and 1 <= fineness <= FINENESS_UNIT
    if not (settings_fit and losses.are_losses(found)):
        raise UserError(DAMAGED)
    environment = Environment(jax_, jaxlib, machine)
    header = Header(
        images, parameters, environment, numbers, shape, levels, steps, fineness, found, groups
    )
    return header, payload


def _groups(rest: Iterator[int], most: int) -> bytes:
    """Their sizes, of at most so many images; what asks for more is not made."""
    groups, count, before = bytearray(), 0, None
    number = _read(rest)
    if not 1 <= number <= _MOST_RUNS:
        raise UserError(DAMAGED)
    for _ in range(number):
        more, kind = divmod(_read(rest), _KINDS)
        count += (more + 1) * max(_size(kind), 1)
        if count > most or kind == before:
            raise UserError(DAMAGED)
        groups += bytes([_size(kind)]) * (more + 1)
        before = kind
    return bytes(groups)


def _kind(group: int) -> int:
    """Plain images are 0, groups of 2^k are k + 1."""
    return group.bit_length()


def _size(kind: int) -> int:
    return 1 << (kind - 1) if kind else PLAIN


def _written(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have the eighth."""
    out = bytearray()
    while number >> 7:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read(source: Iterator[int]) -> int:
    """The inverse of `_written`."""
    number = 0
    for place in range(_NUMBER_BYTES):
        byte = next(source, None)
        if byte is None:
            break
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number
    raise UserError(DAMAGED)


def _checksum(images: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(images).tobytes())


def _digest(parameters: Parameters) -> bytes:
    return bytes.fromhex(digest(parameters))[:6]


def _on_one_device(parameters: Parameters) -> Parameters:
    """One device codes: the same file whatever there is besides."""
    return jax.device_put(parameters, jax.local_devices()[0])
