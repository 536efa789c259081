"""Which code runs: the package's version, and what git knows of it."""

import functools
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_ode.foreign import read_regular, refused
from diffusion_ode.outside import SOURCES
from diffusion_ode.workdir.files import replace_atomically

MAX_DIFF_BYTES = 1 << 20  # of text; more is no longer a change that somebody reads
MAX_SOURCE_BYTES = 1 << 24
_SHORT = 12  # hex digits of a revision
_PATIENCE = 20  # seconds: git may wait for a slow disk, a training for nothing


@dataclass(frozen=True)
class Code:
    """The code that runs.

    Attributes:
      version: the package's.
      revision: git's, of the checkout that the package lies in; None if it lies in none.
      changes: what `git status` and `git diff` say of files that are not as in that revision.
      unknown: why there is no revision.
    """

    version: str
    revision: str | None = None
    changes: str = ""
    unknown: str | None = None

    def facts(self) -> dict[str, Any]:
        """For the JSON files that name the code; `diff` is the file of `keep_changes`."""
        if self.revision is None:
            return {"version": self.version, "revision": None, "unknown": self.unknown}
        known = {"version": self.version, "revision": self.revision}
        return {**known, "modified": bool(self.changes), "diff": self._diff}

    def keep_changes(self, workdir: Path) -> None:
        """Writes the changes, or as much as is read, to `code/REVISION-HASH.diff`."""
        if self._diff is not None and not (workdir / self._diff).exists():
            with replace_atomically(workdir / self._diff, "wb") as file:
                text = self.changes.encode(errors="surrogateescape")
                file.write(text[:MAX_DIFF_BYTES])
                if len(text) > MAX_DIFF_BYTES:
                    file.write(f"\n… and {len(text) - MAX_DIFF_BYTES} bytes more\n".encode())

    @property
    def _diff(self) -> str | None:
        if not self.changes:
            return None
        digest = hashlib.sha256(self.changes.encode(errors="surrogateescape")).hexdigest()
        return f"code/{str(self.revision)[:_SHORT]}-{digest[:_SHORT]}.diff"

    def __str__(self):
        if self.revision is None:
            return f"{self.version}, revision unknown: {self.unknown}"
        changed = f", with changes, in {self._diff}" if self.changes else ""
        return f"{self.version}, revision {self.revision[:_SHORT]}{changed}"


@functools.cache
def running_code() -> Code:
    """The code of this process."""
    return code_in(Path(__file__).parents[2])


def code_facts() -> dict[str, Any]:
    """The running code for JSON, with the files in `code/` of what was named from outside it."""
    outside = {module: _kept(module, source) for module, source in SOURCES.items()}
    return running_code().facts() | ({"outside": outside} if outside else {})


def keep_code(workdir: Path) -> None:
    """Writes to the workdir what git does not know: changes, and modules named from outside."""
    running_code().keep_changes(workdir)
    for module, source in SOURCES.items():
        with replace_atomically(workdir / _kept(module, source), "wb") as file:
            file.write(source)


def read_kept(workdir: Path, module: str, facts: Mapping[str, Any]) -> bytes | None:
    """The source of a module from outside, as `keep_code` wrote it; None if it was not kept.

    Args:
      workdir: of the run.
      module: its name.
      facts: of the run's code.

    Raises:
      UserError: the file is another by now.
    """
    kept = (facts.get("outside") or {}).get(module)
    if kept is None or not (workdir / kept).exists():
        return None
    with refused(lambda why: f"{workdir / kept} is not as the run kept it ({why}): remove it."):
        source = read_regular(workdir / kept, MAX_SOURCE_BYTES)
        if _kept(module, source) != kept:
            raise ValueError("its content is another")
    return source


def _kept(module: str, source: bytes) -> str:
    return f"code/{module}-{hashlib.sha256(source).hexdigest()[:_SHORT]}.py"


def code_in(root: Path) -> Code:
    """The code of the package in a folder."""
    version = sys.modules["diffusion_ode"].__version__  # which stands above this room
    try:
        # An installed package may lie within somebody else's checkout, which knows nothing of it.
        _git(root, "ls-files", "--error-unmatch", "diffusion_ode/__init__.py")
        revision = _git(root, "rev-parse", "HEAD").strip()
        status = _git(root, "status", "--porcelain", "--", ".")
        return Code(version, revision, status and status + _git(root, "diff", "HEAD", "--", "."))
    except subprocess.CalledProcessError as failure:
        reason = (failure.stderr or "git failed").strip().splitlines()[0]
        return Code(version, unknown=f"{root} is no checkout ({reason})")
    except (OSError, subprocess.TimeoutExpired) as failure:
        return Code(version, unknown=f"git does not answer ({failure})")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=_PATIENCE,
    ).stdout
