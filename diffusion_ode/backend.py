"""What the platform is good at."""

import jax


def loops_are_fast() -> bool:
    """Whether a network may sit inside `scan` or `while_loop`.

    XLA's CPU backend runs convolutions there at half speed, and their gradients at a tenth: on
    CPUs loops are unrolled or driven by the host.
    """
    return jax.default_backend() != "cpu"
