"""A data set of one's own from a folder of PNGs, converted once; every fifth is a test image."""

from dataclasses import dataclass
from pathlib import Path

import fiddle as fdl
import numpy as np
from PIL import Image

from data.conversion import converted
from diffusion_ode.diffusion.pixels import Pixels
from experiments.registry import experiment


@dataclass(frozen=True)
class Icons:
    """Grey pictures of 4×4, four levels."""

    path: str = "icons"
    name = "icons"
    shape = (4, 4, 1)
    levels = 4

    def load(self, data_dir=None):
        files = sorted(Path(self.path).glob("*.png"))
        test = files[::5]
        splits = {"train": [f for f in files if f not in test], "test": test}
        blocks = {split: [lambda some=some: self._read(some)] for split, some in splits.items()}
        return converted(self, str(len(files)), blocks, data_dir, origin=self.path)

    def _read(self, files):
        return np.stack([np.asarray(Image.open(file))[..., None] for file in files])


@experiment(parent="digits_vp", data="icons")
def icons_vp(config: fdl.Config) -> fdl.Config:
    """Icons are learnt like digits."""
    config.data.source = fdl.Config(Icons)
    config.data.held_out = 0
    config.model.pixels = fdl.Config(Pixels, shape=Icons.shape, levels=Icons.levels)
    return config
