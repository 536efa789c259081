"""Builds the documentation strictly: `python docs/build.py` writes it to site/.

Whatever Zensical or mkdocstrings complains of is an error: a page or a link that does not exist, a
module that is not found. Zensical's own `--strict` is not asked, for it passes what mkdocstrings
says and fails on shapes in docstrings, `[start, end] [lanes]`, which it takes for links.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_COMPLAINT = re.compile(
    r"(error|warning)(?!.* unresolved autoref .* in api/)|griffe:", re.IGNORECASE
)


def main() -> int:
    """Status 0 if there is nothing to complain of."""
    command = [sys.executable, "-m", "zensical", "build", "--clean"]
    plain = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=plain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    complaints = [line for line in done.stdout.splitlines() if _COMPLAINT.search(line)]
    if done.returncode or complaints:
        print(done.stdout)
        return 1
    print(f"{ROOT / 'site'}: {len(list((ROOT / 'site').rglob('index.html')))} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
