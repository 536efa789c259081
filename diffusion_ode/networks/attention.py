"""Self-attention of several heads, by Flax's layer."""

from typing import Any

import flax.linen as nn

from diffusion_ode.networks.rematerialization import product


def self_attention(heads: int, dtype: Any, name: str, **options: Any) -> nn.Module:
    """From [b, positions, c] to the same; softmax is in float32, whatever the type.

    Args:
      heads: that divide the channels among them.
      dtype: of the products; None for that of the input.
      name: of its parameters.
      options: of `flax.linen.MultiHeadDotProductAttention`.
    """
    return nn.MultiHeadDotProductAttention(
        heads,
        dtype=dtype,
        force_fp32_for_softmax=True,
        attention_fn=_attention,
        name=name,
        **options,
    )


def _attention(query, key, value, **options):
    """Flax's, its products marked for rematerialisation."""
    marked = map(product, (query, key, value))
    return product(nn.dot_product_attention(*marked, **options))
