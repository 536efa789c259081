"""A file is the same however many devices there are, and one of them reads it."""

import jax
import numpy as np

from diffusion_ode.coding.container import compress, decompress
from diffusion_ode.coding.settings import CodecSettings
from diffusion_ode.training.sharding import Mesh
from tests import eight_devices
from tests.inference.test_whole_alphabet import IMAGES, PATHS, random_model

LEVELS = np.tile(IMAGES, (5, 1, 1, 1)).astype(np.uint8)


def written_from_all_devices() -> str:
    """The file of a model whose parameters are on every device there is."""
    model, parameters = random_model(PATHS[0])
    parameters = jax.device_put(parameters, Mesh().build().replicated)
    return compress(model, parameters, LEVELS, CodecSettings(steps=4)).data.hex()


def test_one_device_reads_and_writes_the_file_of_eight():
    script = "import json; from tests.coding.test_devices import written_from_all_devices as go;"
    file = eight_devices.last_line("-c", f"{script} print(json.dumps(go()))", timeout=300)
    assert np.array_equal(decompress(*random_model(PATHS[0]), bytes.fromhex(file)), LEVELS)
    assert written_from_all_devices() == file
