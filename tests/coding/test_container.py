"""A file gives its images as they were, or one sentence."""

import dataclasses
import struct
import time
import zlib

import jax
import numpy as np
import pytest

from diffusion_ode.coding import container
from diffusion_ode.coding.container import DAMAGED, MAGIC, compress, decompress, pack, unpack
from diffusion_ode.coding.environment import Environment
from diffusion_ode.coding.settings import MOST_STEPS, CodecSettings
from diffusion_ode.diffusion.covariance import FullCovariance
from diffusion_ode.diffusion.gaussian_base import BASE, GaussianBase
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.prior import FittedPrior
from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel
from tests.inference.test_whole_alphabet import IMAGES, PATHS, random_model

SETTINGS = CodecSettings(steps=4)


@pytest.fixture(scope="module")
def made():
    return random_model(PATHS[0])


@pytest.fixture(scope="module")
def data(made):
    images = np.tile(IMAGES, (5, 1, 1, 1))
    return compress(*made, images, SETTINGS).data


def forged(data):
    """With the checksum that its content has."""
    return data[:4] + struct.pack("<I", zlib.crc32(data[8:])) + data[8:]


def changed(data, **fields):
    header, payload = unpack(data)
    return pack(dataclasses.replace(header, **fields), payload)


@pytest.mark.parametrize("count", [1, 2, 16, 80])
@pytest.mark.parametrize("ancestral", [False, True])
def test_images_come_back_and_the_header_is_small(made, count, ancestral):
    images = np.tile(IMAGES, (5, 1, 1, 1))[:count].astype(np.uint8)
    settings = CodecSettings(steps=4, ancestral=ancestral)
    file = compress(*made, images, settings)
    decoded = decompress(*made, file.data)
    assert np.array_equal(decoded, images)
    assert decoded.dtype == np.uint8
    assert compress(*made, images, settings).data == file.data
    assert len(file.data) - len(file.coded.payload) <= 60


def test_a_model_compresses_by_its_own_methods(made):
    model = DiffusionModel(*made)
    assert np.array_equal(model.decompress(model.compress(IMAGES, SETTINGS)), IMAGES)
    assert np.array_equal(model.decompress(model.compress(IMAGES[3], SETTINGS)), IMAGES[3:4])


def test_no_images_are_refused(made):
    with pytest.raises(UserError, match="There are no images"):
        compress(*made, IMAGES[:0], SETTINGS)


def test_a_bit_flipped_anywhere_is_noticed_before_decoding(made, data, monkeypatch):
    monkeypatch.setattr(container, "BitsBackCodec", None)
    for place in range(len(data)):
        for bit in (0, 7):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            with pytest.raises(UserError):
                decompress(*made, bytes(flipped))


def test_a_file_that_is_cut_off_or_goes_on_is_refused(made, data):
    for length in range(len(data)):
        with pytest.raises(UserError):
            decompress(*made, data[:length])
    with pytest.raises(UserError, match=DAMAGED):
        decompress(*made, data + b"\0")


def test_what_passes_the_checksum_of_the_file_is_still_not_believed(made, data):
    """Whoever alters a file may write its checksum anew."""
    believed = []
    for place in range(8, len(data)):
        altered = bytearray(data)
        altered[place] ^= 1
        try:
            decoded = decompress(*made, forged(bytes(altered)))
        except UserError:
            continue
        assert np.array_equal(decoded, decompress(*made, data))
        believed.append(place)
    # A loss that no step is near is all the same.
    start = data.index(unpack(data)[0].losses)
    assert set(believed) <= set(range(start, start + 9))


def test_a_header_that_asks_for_much_is_refused_at_once(data):
    header, payload = unpack(data)
    for length in range(32, len(data) - len(payload)):
        with pytest.raises(UserError, match=DAMAGED):
            unpack(forged(data[:length]))
    start = data.index(header.losses) + len(header.losses)
    many = b"\xff\xff\xff\xff\x7f"
    twice = b"\x02" + 2 * data[start + 1 : start + 2]
    for runs in (b"\x00", many, b"\x01" + many, b"\x02" + many + many, twice):
        start_time = time.perf_counter()
        with pytest.raises(UserError, match=DAMAGED):
            unpack(forged(data[:start] + runs + payload))
        assert time.perf_counter() - start_time < 1.0
    for fields in (
        {"steps": MOST_STEPS + 1},
        {"steps": 0},
        {"fineness": 0},
        {"fineness": 65},
        {"losses": bytes(8)},
    ):
        with pytest.raises(UserError, match=DAMAGED):
            unpack(changed(data, **fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shape": (2, 1, 1)}, "of shape \\(2, 1, 1\\) with 4 levels"),
        ({"levels": 5}, "with 5 levels"),
        ({"parameters": bytes(6)}, "other parameters"),
        ({"numbers": 0}, "computes other numbers"),
        ({"images": 0}, "their checksum differs"),
        ({"environment": Environment((0, 9, 0), (0, 9, 0), 0)}, "with jax 0.9.0"),
        (
            {"environment": dataclasses.replace(Environment.here(), jaxlib=(0, 9, 1))},
            "with jaxlib 0.9.1",
        ),
        ({"environment": dataclasses.replace(Environment.here(), machine=0)}, "kind of machine"),
    ],
)
def test_a_file_from_elsewhere_is_refused(made, data, fields, says):
    with pytest.raises(UserError, match=says) as refused:
        decompress(*made, changed(data, **fields))
    assert str(refused.value).endswith(".")


def test_another_model_is_refused_before_decoding(made, data, monkeypatch):
    monkeypatch.setattr(container, "BitsBackCodec", None)
    model, parameters = made
    other = jax.tree.map(lambda leaf: leaf * 1.01, parameters)
    with pytest.raises(UserError, match="other parameters"):
        decompress(model, other, data)
    straight = dataclasses.replace(model, path=PATHS[1])
    with pytest.raises(UserError, match="computes other numbers"):
        decompress(straight, parameters, data)
    base = GaussianBase(FullCovariance())
    based = dataclasses.replace(model, base=base, prior=FittedPrior())
    statistics = {BASE: base.init(model.pixels.shape)}
    with pytest.raises(UserError, match="computes other numbers"):
        of_another = dataclasses.replace(model, prior=based.bound(statistics).prior)
        decompress(of_another, parameters, data)
    larger = dataclasses.replace(model, pixels=Pixels((1, 2, 1), 5))
    with pytest.raises(UserError, match="with 4 levels"):
        decompress(larger, parameters, data)


def test_other_files_and_versions_are_told_apart(made, data):
    with pytest.raises(UserError, match="was not written by compressing"):
        decompress(*made, b"PK\x03\x04" + data[4:])
    with pytest.raises(UserError, match="not version 1"):
        decompress(*made, MAGIC[:3] + b"\x02" + data[4:])


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"steps": 0}, "steps = 0"), ({"steps": 10**5}, "steps"), ({"fineness": 0.3}, "1/64")],
)
def test_impossible_settings_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        CodecSettings(**settings)
