"""Whatever is in a compressed file, its images come back as they were, or one sentence does."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest

from diffusion_ode.coding.container import DAMAGED, compress, decompress, pack, unpack
from diffusion_ode.coding.settings import CodecSettings
from diffusion_ode.errors import UserError
from tests.inference.test_whole_alphabet import IMAGES, PATHS, random_model
from tests.mutations import attack, counts

SETTINGS = CodecSettings(steps=4)


@pytest.fixture(scope="module")
def made():
    return random_model(PATHS[0])


@counts
@pytest.mark.parametrize("forged", [False, True], ids=["as it is", "with its checksum"])
def test_compressed_files(made, forged, count):
    def read(changed):
        if forged:
            checksum = struct.pack("<I", zlib.crc32(changed[8:]))
            changed = changed[:4] + checksum + changed[8:]
        assert np.array_equal(decompress(*made, changed), IMAGES)

    attack(compress(*made, IMAGES, SETTINGS).data, read, count)


def test_a_file_that_claims_more_than_it_can_hold_is_refused(made):
    file = compress(*made, IMAGES, SETTINGS).data
    header, payload = unpack(file)
    groups = bytes(2**17)  # plain, which take nothing where all is black
    for fields in ({"groups": groups}, {"groups": groups[: 2**16], "shape": (64, 64, 3)}):
        with pytest.raises(UserError, match=DAMAGED):
            unpack(pack(dataclasses.replace(header, **fields), payload))


def test_thousands_of_black_images_come_back(made):
    images = np.zeros((10_000, *made[0].pixels.shape), np.uint8)
    assert np.array_equal(decompress(*made, compress(*made, images, SETTINGS).data), images)
