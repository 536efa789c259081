"""The shapes that everybody speaks of, under one fixed set of dimension names.

b: images of a batch; h, w, c: height, width, channels; n: any number of entries. They are checked
while the tests run (jaxtyping with beartype) and cost nothing otherwise.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Images = Float[Array, "b h w c"]
"""Real-valued images: encoded, noised, or predicted."""
Levels = Int[Array, "b h w c"]
"""Images as they come: integers 0..V-1."""
PerImage = Float[Array, " b"]
"""One number for each image of a batch."""
Mask = Bool[Array, " b"]
Scalar = Float[Array, ""]
Key = PRNGKeyArray
Parameters = Mapping[str, Any]
"""A tree of network parameters, as Flax nests it."""

__all__ = ["Array", "Images", "Key", "Levels", "Mask", "Parameters", "PerImage", "Scalar"]
