"""Write a run's averaged parameters as a folder to pass on: safetensors, config, model card.

python -m diffusion_ode.tools.export RUN OUT
"""

# Before all other imports: a Ctrl-C may come in any of them.
if __name__ == "__main__":
    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion_ode.checkpoints.exported import write_exported
from diffusion_ode.checkpoints.stored import Restored, Step, StoredCheckpoints
from diffusion_ode.command_line import SentenceParser
from diffusion_ode.configs import allowed
from diffusion_ode.configs.construction import Document
from diffusion_ode.errors import UserError, in_words, printable
from diffusion_ode.exit_statuses import DONE, REFUSED
from diffusion_ode.home import expanded, path_argument, refuse_remote
from diffusion_ode.inference.diffusion_model import model_documents
from diffusion_ode.leaving import leave_in_order, leave_with, status_of
from diffusion_ode.streams import LastingStream
from diffusion_ode.tasks.loading import parse_step
from diffusion_ode.tools.model_card import model_card
from diffusion_ode.workdir.code import read_kept

CARD = "README.md"  # the name under which model hubs show it
LOADER = "load.py"

_LOADER = '''\
"""Loads the model of this folder, draws images and judges them: python load.py

It needs diffusion_ode (its code: {code}) and safetensors.
"""

import sys
from pathlib import Path

try:
    import jax
    import numpy as np

    from diffusion_ode import DiffusionModel
except ImportError as missing:
    sys.exit(f"{{missing}}: type `pip install .` in a checkout of diffusion_ode, then try again.")

folder = Path(__file__).parent
model = DiffusionModel.load(folder{trusted})
samples = model.sample(4, jax.random.key(0))
np.save(folder / "samples.npy", samples.images)
print("samples.npy:", samples.images.shape, samples.images.dtype)

judged = model.log_prob(samples.images)
print(f"{{judged.mean:.4f}} ± {{judged.standard_error:.4f}} bits per dimension")
'''


def export(run: Path, out: Path, step: Step = None) -> Restored:
    """Writes OUT, whole or not at all.

    Modules of one's own that the config names are put beside, as the workdir keeps them.

    Args:
      run: the workdir of a training.
      out: the folder to make; it may exist if it is empty.
      step: which checkpoint; "best", or None for the newest.

    Returns:
      What was exported.

    Raises:
      UserError: there is no such checkpoint, OUT is taken, or safetensors is not installed.
    """
    run = expanded(run)
    refuse_remote(out, "OUT ", "give a folder of this machine, and upload that")
    out = expanded(out)
    # The folder where one stands has no name, and nothing can be put in its place.
    if out.exists() and (not out.is_dir() or any(out.iterdir()) or not out.name):
        raise UserError(f"{out} exists already: give another OUT, or remove it.")
    if not (run / "checkpoints").is_dir():
        raise UserError(f"{run} holds no checkpoint: give the workdir of a training as RUN.")
    restored = StoredCheckpoints(run / "checkpoints").restore_field("ema", step)
    code = restored.facts.get("code") or {}
    documents = model_documents(restored.document, run)
    modules = sorted({module for document in documents for module in _outside(document)})
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        write_exported(temporary, restored)
        for module in modules:
            source = read_kept(run, module, code)
            if source is not None:
                target = temporary / f"{module.replace('.', '/')}.py"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source)
        card = model_card(run, restored, modules)  # of files that may hold half a letter
        (temporary / CARD).write_text(card, encoding="utf-8", errors="replace")
        named = code.get("revision") or code.get("version") or "of an unknown version"
        trusted = f", trusted={tuple(modules)}" if modules else ""
        loader = _LOADER.format(code=named, trusted=trusted)
        (temporary / LOADER).write_text(loader, encoding="utf-8")
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    return restored


def _outside(document: Document) -> Iterator[str]:
    """The modules from outside the program that building the model would import."""
    match document:
        case {"call": str(reference)} | {"name": str(reference)}:
            module = allowed.module_of(reference)
            libraries = (*allowed.LIBRARY_CONSTRUCTORS, *allowed.LIBRARY_NAMES)
            if module.partition(".")[0] not in allowed.PACKAGES and module not in libraries:
                yield module
    inner = document.values() if isinstance(document, dict) else document
    for node in inner if isinstance(document, dict | list) else ():
        yield from _outside(node)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        options = _parser().parse_args(arguments)
        exported = export(options.run, options.out, parse_step(options.checkpoint))
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        said = f"OUT cannot be written ({in_words(error)}): choose another OUT."
        print(said, file=sys.stderr)
        return REFUSED
    print(printable(f"step {exported.step} of {options.run} is in {options.out}; load it with"))
    print(f"  python {shlex.quote(printable(options.out / LOADER))}")
    return DONE


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="python -m diffusion_ode.tools.export",
        description="Write a run's averaged parameters as a folder to pass on: safetensors, config,"
        " model card and a script that loads it.",
    )
    parser.add_argument("run", metavar="RUN", type=path_argument, help="the workdir of a training")
    parser.add_argument("out", metavar="OUT", type=path_argument, help="the folder to make")
    parser.add_argument("--checkpoint", metavar="STEP", help="a step or best; default the newest")
    return parser


if __name__ == "__main__":
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    leave_in_order()
    leave_with(status_of(main))
