"""Judges one image by the run given, with the installed library alone: `python -I` runs this."""

import sys

import numpy as np

import diffusion_ode
from diffusion_ode import DiffusionModel

model = DiffusionModel.load(sys.argv[1])
score = model.log_prob(np.zeros((1, *model.model.pixels.shape), np.uint8))
assert score.converged.all() and np.isfinite(score.nats).all(), score
assert "site-packages" in diffusion_ode.__file__, diffusion_ode.__file__
print(f"diffusion_ode {diffusion_ode.__version__}: {score.mean:.4f} bits per dimension")
