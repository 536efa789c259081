"""Where parameters may come from besides a run's own workdir: another's, or a published file."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax

from diffusion_ode.checkpoints.arrays import put
from diffusion_ode.checkpoints.exported import WEIGHTS, ExportedModel, stored_in
from diffusion_ode.checkpoints.reference import ReferenceCheckpoint, find_reference, read_reference
from diffusion_ode.checkpoints.state_dict import StateDict
from diffusion_ode.checkpoints.stored import Restored, StoredCheckpoints
from diffusion_ode.diffusion.learned_schedule import SCHEDULE
from diffusion_ode.diffusion.model import Model, abstract_parameters
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import open_regular, refused
from diffusion_ode.home import expanded, url_of
from diffusion_ode.networks.network import ReadsPublished
from diffusion_ode.ranges import is_count
from diffusion_ode.remote import fetched, fetched_run
from diffusion_ode.training.published_schedule import published_schedule

_REFERENCE = "reference:"
_SHOWN = 3
_MU, _NU = "opt_state's mu", "opt_state's nu"


class Origin(Protocol):
    """Something that holds trained parameters."""

    def check(self) -> None:
        """Refuses a place that holds none, or not that step; fetches what is in remote storage.

        Raises:
          UserError: there is nothing.
        """
        ...

    def restore(self, model: Model, wanted: Mapping[str, Any]) -> Restored:
        """Some fields of a train state.

        Args:
          model: what they are for.
          wanted: by name (`parameters`, `ema`, `optimizer`, `step`), shapes, types and shardings.

        Raises:
          UserError: there is nothing, or it does not fit.
        """
        ...


def parse_origin(text: str) -> Origin:
    """The origin that `WORKDIR[@STEP]` or `reference:PATH` means.

    A folder that is there is meant even if its own name has an @.

    Raises:
      UserError: what follows @ is no step.
    """
    if text.startswith(_REFERENCE):
        return PublishedFile(_place(text.removeprefix(_REFERENCE)))
    workdir, at, step = text.rpartition("@")
    if not at or (url_of(text) is None and _is_folder(text)):
        return Workdir(_place(text))
    if not is_count(step):
        raise UserError(
            f"--init_from={text} does not end in a step: write WORKDIR@STEP with a whole"
            " number, or WORKDIR alone for its newest checkpoint."
        )
    return Workdir(_place(workdir), int(step))


def _is_folder(text: str) -> bool:
    try:
        return expanded(text).is_dir()
    except UserError:  # too long with its step, say
        return False


def _place(text: str) -> Path:
    return Path(text) if url_of(text) else expanded(text)


def assumptions(restored: Restored, model: Model) -> str:
    """What a file without a config cannot say of its parameters, for the end of a sentence."""
    if restored.document:
        return ""
    path, parameterization = type(model.path).__name__, type(model.parameterization).__name__
    return f"; that they are of {path} and {parameterization} is assumed, the file does not say it"


@dataclass(frozen=True)
class Workdir:
    """The newest checkpoint of another run, or that of a step; or an exported model.

    It may be in remote storage, and then is fetched first.
    """

    workdir: Path
    step: int | None = None

    def check(self):
        stored = self._stored()
        if self.step is not None and isinstance(stored, StoredCheckpoints):
            stored.check_step(self.step, stored.list_steps())

    def restore(self, model, wanted):
        del model  # its parameters are compared with those wanted
        return self._stored().restore_parameters(wanted, self.step)

    def _stored(self) -> StoredCheckpoints | ExportedModel:
        workdir = fetched_run(self.workdir, self.step)
        if not any((workdir / name).exists() for name in ("checkpoints", WEIGHTS)):
            raise UserError(
                f"{self.workdir} holds no checkpoints to start from: train there first, or name"
                " another folder by --init_from=WORKDIR[@STEP]."
            )
        return stored_in(workdir)


@dataclass(frozen=True)
class PublishedFile:
    """A `ckpt-N.flax`, or the newest one in a folder.

    Source: the checkpoints of Zheng et al. 2023, arXiv:2305.03935, and of Kingma et al. 2021,
    arXiv:2107.00630.
    """

    path: Path

    def check(self):
        find_reference(fetched(self.path))

    def restore(self, model, wanted):
        found = read_reference(fetched(self.path))
        with refused(lambda why: f"{found.path} does not fit this model: {why}; fetch it again."):
            return self._restored(found, model, wanted)

    def _restored(
        self, found: ReferenceCheckpoint, model: Model, wanted: Mapping[str, Any]
    ) -> Restored:
        trees = _trees(found)
        _check_fit(found, trees, model)
        readers = {
            "parameters": lambda abstract: _placed(abstract, trees["params"], found.path),
            "ema": lambda abstract: _placed(abstract, trees["ema_params"], found.path),
            "optimizer": lambda abstract: _placed_optimizer(abstract, found, trees),
            "step": lambda abstract: put(np.asarray(found.step), abstract),
        }
        state = {name: readers[name](abstract) for name, abstract in wanted.items()}
        with open_regular(found.path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts = {"digest": f"sha256:{digest}", "file": str(found.path)}
        return Restored(found.step, state, data_state={}, document={}, facts=facts)


def _trees(found: ReferenceCheckpoint) -> dict[str, StateDict]:
    """All of a file, by its own names; a schedule that was learned has moments that begin anew."""
    trees = {"params": found.parameters, "ema_params": found.ema}
    if found.moments is not None:
        trees |= {_MU: found.moments.mu, _NU: found.moments.nu}
    schedule = published_schedule(found)
    if schedule is None:
        return trees
    anew = jax.tree.map(np.zeros_like, schedule.parameters)
    parts = {"params": schedule.parameters, "ema_params": schedule.ema}
    return {what: {**tree, SCHEDULE: parts.get(what, anew)} for what, tree in trees.items()}


def _check_fit(found: ReferenceCheckpoint, trees: Mapping[str, StateDict], model: Model) -> None:
    """Compares all trees of a file with the model's parameters, before any array is read.

    Raises:
      UserError: they differ; says in what, and which sizes would fit.
    """
    schedule = published_schedule(found)
    if schedule is not None and type(model.schedule) is not type(schedule.learned):
        raise UserError(
            f"{found.path} has learned a schedule, a {type(schedule.learned).__name__}, which"
            f" model.schedule = {type(model.schedule).__name__} is not: give an experiment that has"
            f" it, or make a workdir with python -m diffusion_ode.tools.import_reference"
            f" {found.path} WORKDIR."
        )
    wanted = _shapes(abstract_parameters(model))
    for what, tree in trees.items():
        shapes = _shapes(tree)
        if shapes != wanted:
            raise UserError(
                f"{found.path} does not fit this model: in {what} {_differences(shapes, wanted)};"
                f" {_remedy(found, model)}."
            )


def _differences(there: Mapping[str, tuple], here: Mapping[str, tuple]) -> str:
    missing = [name for name in here if name not in there]
    left_over = [name for name in there if name not in here]
    other = [
        f"{name} is {there[name]} and not {here[name]}"
        for name in here
        if name in there and there[name] != here[name]
    ]
    kinds = (("missing", missing), ("left over", left_over), ("of other shapes", other))
    return ", ".join(_counted(kind, names) for kind, names in kinds if names)


def _counted(kind: str, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} {kind} ({shown})"


def _remedy(found: ReferenceCheckpoint, model: Model) -> str:
    if isinstance(model.network, ReadsPublished):
        return model.network.remedy(found.parameters, model.pixels.shape[-1])
    return (
        f"it is of another network than {type(model.network).__name__}: start from one of your own"
        " runs by --init_from=WORKDIR[@STEP]"
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Path → shape of each leaf."""
    return {path: tuple(np.shape(leaf)) for path, leaf in _leaves(tree)}


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        inner = f"{path}/{name}" if path else name
        if isinstance(value, Mapping):
            yield from _leaves(value, inner)
        else:
            yield inner, value


def _placed(abstract: Any, tree: StateDict, file: Path) -> Any:
    """The file's values in the structure, of the types and on the devices of `abstract`."""
    found = dict(_leaves(tree))

    def place(path, leaf):
        name = "/".join(key.key for key in path)
        if not np.all(np.isfinite(found[name].astype(np.float32))):
            raise UserError(f"{file} has values in {name} that are not finite: fetch it again.")
        return put(found[name], leaf)

    return jax.tree_util.tree_map_with_path(place, abstract)


def _placed_optimizer(
    abstract: Any, found: ReferenceCheckpoint, trees: Mapping[str, StateDict]
) -> Any:
    moments, file = found.moments, found.path
    fresh = "set train.warm_start.optimizer=False to begin with a fresh one"
    if moments is None:
        raise UserError(f"{file} holds no state of Adam: {fresh}.")

    def place(link):
        if isinstance(link, optax.ScaleByAdamState):
            return optax.ScaleByAdamState(
                count=put(np.asarray(moments.count), link.count),
                mu=_placed(link.mu, trees[_MU], file),
                nu=_placed(link.nu, trees[_NU], file),
            )
        if isinstance(link, optax.ScaleByScheduleState):  # which a warm start begins anew
            return link._replace(count=put(np.zeros((), np.int32), link.count))
        raise UserError(f"{file} holds a state of Adam, and train.optimizer is another: {fresh}.")

    def known(link):
        return isinstance(link, optax.ScaleByAdamState | optax.ScaleByScheduleState)

    if not any(
        isinstance(x, optax.ScaleByAdamState) for x in jax.tree.leaves(abstract, is_leaf=known)
    ):
        place(None)
    return jax.tree.map(place, abstract, is_leaf=known)
