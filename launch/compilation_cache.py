"""Compiled programs are kept between launches."""

import atexit
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

_WORTH_KEEPING = 0.5  # seconds of compilation


def keep_compilations() -> None:
    """Lets JAX keep compiled programs in `$JAX_COMPILATION_CACHE_DIR` or the user's cache.

    What is read back is executed, so it is a folder of the user's own; and machine code is only
    good for the processor it was made for, so each kind of machine has its own. Set by environment
    variables, which JAX reads when it is imported: so this imports nothing, and comes first.
    """
    folder = _cache() / "compiled" / _kind_of_machine()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(_WORTH_KEEPING))


def _cache() -> Path:
    """The user's; of one without a home directory, as in a container, a folder of this run's."""
    try:
        return Path.home() / ".cache" / "diffusion_ode"
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="diffusion_ode-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


def _kind_of_machine() -> str:
    """A short name that two machines share only if the same machine code runs on both."""
    try:
        flags = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line
        )
    except (OSError, StopIteration):
        flags = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
