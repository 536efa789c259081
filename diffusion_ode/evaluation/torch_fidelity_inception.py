"""The Inception network of the field's FID, through torch-fidelity."""

import importlib.util
from dataclasses import dataclass

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.features import Features
from diffusion_ode.foreign import refused
from diffusion_ode.home import expanded
from diffusion_ode.ranges import Count

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
SOURCE = "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0"
_MISSING = "TorchFidelityInception needs torch-fidelity: pip install torch-fidelity."
_POOLED, _LOGITS = "2048", "logits_unbiased"


@dataclass(frozen=True)
class TorchFidelityInception:
    """Inception v3 as TensorFlow's of 2015, with weights from a file; needs `torch-fidelity`.

    Args:
      weights: the file, `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity's releases.
      batch_size: images at once.
    """

    weights: str
    batch_size: Count = 64

    __post_init__ = check_fields

    @property
    def name(self) -> str:
        return f"torch-fidelity's Inception v3, {expanded(self.weights).name}"

    def check(self) -> None:
        """Refuses to be without weights or torch-fidelity."""
        path = expanded(self.weights)
        if not path.is_file():
            raise UserError(f"There is no file {path}: get {WEIGHTS} from {SOURCE}.")
        if not all(map(importlib.util.find_spec, ("torch", "torch_fidelity"))):
            raise UserError(_MISSING)

    def features(self, images):
        self.check()
        path = expanded(self.weights)
        try:
            import torch  # pyright: ignore[reportMissingImports]
            from torch_fidelity import (  # pyright: ignore[reportMissingImports]
                feature_extractor_inceptionv3 as inception,
            )
        except ImportError as error:
            raise UserError(_MISSING) from error
        with refused(lambda why: f"{path} holds no such weights ({why}): get {WEIGHTS} anew."):
            network = inception.FeatureExtractorInceptionV3(
                "inception-v3-compat", [_POOLED, _LOGITS], feature_extractor_weights_path=str(path)
            )
        network.eval()
        found: list[tuple[np.ndarray, ...]] = []
        with torch.no_grad():
            for begin in range(0, len(images), self.batch_size):
                part = np.moveaxis(images[begin : begin + self.batch_size], -1, 1)
                out = network(torch.from_numpy(np.ascontiguousarray(part)))
                found.append(tuple(each.numpy() for each in out))
        pooled, logits = (np.concatenate(each) for each in zip(*found, strict=True))
        return Features(pooled, logits)
