"""Nats are used inside; bits per dimension only where a figure is shown."""

import math


def bits_per_dimension(nats, dimensions: int):
    """Converts a code length in nats to bits per dimension (bpd).

    Args:
      nats: a code length, −log P, in nats per image; any shape.
      dimensions: N = height · width · channels.
    """
    return nats / (dimensions * math.log(2.0))
