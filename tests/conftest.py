"""What all tests share: strict arithmetic, checked shapes, and one store of compiled programs."""

import os
import tempfile
from pathlib import Path

import pytest

# Compiling is what tests cost; this process and its subprocesses keep what they compile. A folder
# of its own, so that a test never runs what another version of JAX has left behind.
_COMPILED = Path(tempfile.gettempdir()) / f"diffusion_ode-tests-{os.getuid()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_COMPILED))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A third less to compile, for values that differ by rounding; long tests run as users' programs do.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax  # noqa: E402 — after its environment

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture
def strict():
    """No silent change of type or rank: what the model's arithmetic is held to."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
