"""A model that was exported: averaged parameters as `model.safetensors`, beside their config.

The file's metadata hold one record (the checkpoint's step and facts, a digest of every array, the
SHA-256 of `config.json`) under a seal, so that what is damaged on the way is not used. A seal is no
signature: whoever can write the folder can write another one. So reading executes nothing, and the
config is built as any other, from an allow-list.
"""

import hashlib
import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_ode.checking import shown
from diffusion_ode.checkpoints.arrays import kinds, put
from diffusion_ode.checkpoints.digest import LeafFacts, leaf_facts, named_leaves, path_of
from diffusion_ode.checkpoints.facts import checked_facts
from diffusion_ode.checkpoints.records import MAX_ITEMS, check_fit
from diffusion_ode.checkpoints.stored import Restored, Step, StoredCheckpoints
from diffusion_ode.configs import documents
from diffusion_ode.configs.construction import Document
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import open_regular, parsed_json, read_regular, refused

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_STEPS = 10**15  # that no training has
FIELD = "ema"  # of a train state: the only one that is exported


class ExportedModel:
    """An exported folder, read as the checkpoints of a training are; its step is the only one.

    Args:
      folder: that holds the files.
    """

    def __init__(self, folder: Path):
        self.directory = folder

    def read_document(self, step: Step = None) -> Document:
        """Its config document.

        Raises:
          UserError: a file is missing, damaged or of another export, or the step is another.
        """
        return self._read({}, step).document

    def restore_parameters(self, abstract_fields: Mapping[str, Any], step: Step = None) -> Restored:
        """Its averaged parameters, verified, as `{"ema": …}`.

        Args:
          abstract_fields: of which shapes, types and shardings; the only field is `ema`.
          step: None, or the one that was exported.

        Raises:
          UserError: as `read_document`, or they do not fit, or other fields are wanted.
        """
        others = abstract_fields.keys() - {FIELD}
        if others:
            remedy = " ".join(f"--set train.warm_start.{name}=False" for name in sorted(others))
            raise UserError(
                f"{self.directory} is an exported model, which holds averaged parameters alone:"
                f" begin with them by {remedy}."
            )
        return self._read(abstract_fields, step)

    def _read(self, wanted: Mapping[str, Any], step: Step) -> Restored:
        st = _safetensors()
        document = documents.read(self.directory / CONFIG)
        with refused(
            lambda why: (
                f"{self.directory} is not as it was exported ({why}): fetch or export it again."
            )
        ):
            open_regular(self.directory / WEIGHTS).close()
            with st.safe_open(self.directory / WEIGHTS, "np") as file:
                record = self._record(file.metadata() or {})
                if step not in (None, record["step"]):
                    raise UserError(
                        f"{self.directory} is an exported model of step {record['step']}: leave"
                        f" the step {step} out."
                    )
                saved = {
                    f"{FIELD}/{name}": LeafFacts(tuple(shape), dtype, digest)
                    for name, (dtype, shape, digest) in record["leaves"].items()
                }
                if wanted:
                    check_fit(self.directory, saved, kinds(wanted), whole=False)
                state = jax.tree_util.tree_map_with_path(
                    lambda path, leaf: put(file.get_tensor("/".join(path_of(path[1:]))), leaf),
                    dict(wanted),
                )
            for name, found in leaf_facts(state).items():
                if found != saved[name]:
                    raise ValueError(f"the content of {name} is not what was exported")
            return Restored(record["step"], state, {}, document, record["facts"])

    def _record(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        text = metadata.get("record")
        if text is None:
            raise ValueError(f"{WEIGHTS} is of another program")
        content = text.encode()
        if hashlib.sha256(content).hexdigest() != metadata.get("seal"):
            raise ValueError(f"the record in {WEIGHTS} is altered")
        record = parsed_json(content, MAX_ITEMS)
        if _checksum(self.directory) != record["config"]:
            raise ValueError(f"{CONFIG} is altered, or of another export")
        if type(record["step"]) is not int or not 0 <= record["step"] < _STEPS:
            raise ValueError(f"its step is {shown(record['step'])}")
        return record | {"facts": checked_facts(record["facts"])}


def stored_in(folder: Path) -> StoredCheckpoints | ExportedModel:
    """The checkpoints of a workdir, or the exported model that the folder is."""
    if (folder / WEIGHTS).exists() and not (folder / "checkpoints").exists():
        return ExportedModel(folder)
    return StoredCheckpoints(folder / "checkpoints")


def write_exported(folder: Path, restored: Restored) -> None:
    """Writes what `ExportedModel` reads into an existing folder.

    Args:
      folder: where to.
      restored: of a checkpoint, with `ema` in its state.

    Raises:
      UserError: `safetensors` is not installed.
    """
    st = _safetensors("numpy")
    ema = restored.state[FIELD]
    documents.write(restored.document, folder / CONFIG)
    leaves = {
        name: [leaf.dtype, list(leaf.shape), leaf.digest] for name, leaf in leaf_facts(ema).items()
    }
    record = {"step": restored.step, "facts": restored.facts, "leaves": leaves}
    text = json.dumps({**record, "config": _checksum(folder)})
    seal = hashlib.sha256(text.encode()).hexdigest()
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(ema).items()}
    metadata = {"format": "flax", "record": text, "seal": seal}
    st.save_file(arrays, folder / WEIGHTS, metadata=metadata)
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # it comes readable by its owner alone


def _checksum(folder: Path) -> str:
    return hashlib.sha256(read_regular(folder / CONFIG, documents.MAX_BYTES)).hexdigest()


def _safetensors(part: str = "") -> Any:
    try:
        return importlib.import_module(f"safetensors.{part}" if part else "safetensors")
    except ImportError:
        raise UserError(
            "Exported models need the library safetensors, which is not installed: pip install"
            " safetensors."
        ) from None
