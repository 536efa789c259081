"""A data set of one's own from an .npz file with the arrays `train` and `test`."""

from dataclasses import dataclass

import fiddle as fdl
import numpy as np

from data.source import describe_images
from diffusion_ode.diffusion.pixels import Pixels
from experiments.registry import experiment


@dataclass(frozen=True)
class Stripes:
    """Images uint8 [n, 4, 4, 1] of four levels."""

    path: str = "stripes.npz"
    name = "stripes"
    shape = (4, 4, 1)
    levels = 4

    def load(self, data_dir=None):
        with np.load(self.path) as arrays:
            return describe_images(self, arrays["train"], arrays["test"])


@experiment(parent="digits_vp", data="stripes")
def stripes_vp(config: fdl.Config) -> fdl.Config:
    """Stripes are easier than digits."""
    config.data.source = fdl.Config(Stripes)
    config.data.held_out = 0
    config.model.pixels = fdl.Config(Pixels, shape=Stripes.shape, levels=Stripes.levels)
    return config
