"""A trained model in three lines of Python."""

import dataclasses
import functools
import operator
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode import units
from diffusion_ode.backend import check_devices, refuse_tracing
from diffusion_ode.checking import Misfit, check, fit, shown, takes
from diffusion_ode.checkpoints.exported import stored_in
from diffusion_ode.checkpoints.stored import Step, as_step
from diffusion_ode.configs import construction
from diffusion_ode.diffusion.model import Model, abstract_parameters
from diffusion_ode.errors import UserError
from diffusion_ode.home import expanded
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.sampling import OdeSampler, Sampler, drawn_in_order
from diffusion_ode.ranges import Count
from diffusion_ode.remote import fetched_run
from diffusion_ode.reporting.quantities import counted
from diffusion_ode.typing import Key, Parameters

if TYPE_CHECKING:
    from diffusion_ode.coding.settings import CodecSettings

_SEEDS = 1 << 32  # as many differ without 64-bit types


@dataclasses.dataclass(frozen=True)
class LogProbability:
    """Log-likelihoods of n images.

    Each is a lower bound on log P(k) in expectation over its draws, with the exception that
    `DiffusionModel.log_prob` names.

    Attributes:
      nats: [n]; NaN where the solve did not converge.
      bits_per_dimension: [n], −log P(k) / (N log 2).
      nfe: [n], evaluations of the network.
      converged: [n].
    """

    nats: np.ndarray
    bits_per_dimension: np.ndarray
    nfe: np.ndarray
    converged: np.ndarray

    def where(self, sound: np.ndarray) -> "LogProbability":
        """The same, with the images that are not sound [n] counted as not converged."""
        return LogProbability(
            nats=np.where(sound, self.nats, np.nan),
            bits_per_dimension=np.where(sound, self.bits_per_dimension, np.nan),
            nfe=self.nfe,
            converged=self.converged & sound,
        )

    @property
    def mean(self) -> float:
        """Bits per dimension over the images that converged; look at `converged` too.

        Raises:
          UserError: none did.
        """
        if len(self.converged) == 0:
            raise UserError("There are no images, so they have no mean: give at least one.")
        if not self.converged.any():
            raise UserError(
                f"None of {counted(len(self.converged), 'image')} converged, so their mean is"
                " unknown: raise the controller's max_steps or its tolerances."
            )
        if not self.converged.all():
            lost = int(np.sum(~self.converged))
            warnings.warn(
                f"{lost} of {counted(len(self.converged), 'image')} did not converge, and a mean"
                " without them is biased: raise the controller's max_steps or its tolerances.",
                stacklevel=2,
            )
        return float(np.mean(self.bits_per_dimension[self.converged]))

    @property
    def standard_error(self) -> float:
        """Of `mean`, over images; what dequantisation and probes add is part of it."""
        values = self.bits_per_dimension[self.converged]
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf


@dataclasses.dataclass(frozen=True)
class Samples:
    """Drawn images, n of them.

    Attributes:
      images: [n, h, w, c], levels; uint8 up to 256 of them. Those that did not converge are noise.
      nfe: [n], evaluations of the network.
      converged: [n].
      log_probability: of the images, if it was asked for.
    """

    images: np.ndarray
    nfe: np.ndarray
    converged: np.ndarray
    log_probability: LogProbability | None = None


class DiffusionModel:
    """A diffusion ODE with its parameters, for judging images and drawing them.

        model = DiffusionModel.load("runs/digits_vp")
        model.log_prob(images).bits_per_dimension
        model.sample(16, jax.random.key(0)).images

    Args:
      model: what it is made of.
      parameters: of its network.
      likelihood: how `log_prob` works by default.
      sampler: how `sample` works by default.
      facts: what is known of where the parameters came from.
    """

    def __init__(
        self,
        model: Model,
        parameters: Parameters,
        likelihood: OdeLikelihood | None = None,
        sampler: Sampler | None = None,
        facts: dict[str, Any] | None = None,
    ):
        self.model = model.bound(parameters)
        self.parameters = parameters
        self.likelihood = likelihood or OdeLikelihood()
        self.sampler = sampler or OdeSampler()
        self.facts = dict(facts or {})

    @classmethod
    def load(
        cls, workdir: str | Path, checkpoint: Step = None, *, trusted: Sequence[str] = ()
    ) -> "DiffusionModel":
        """The averaged parameters of a checkpoint, with the likelihood and sampler it is run with.

        Args:
          workdir: of a training, e.g. "runs/digits_vp"; or a folder that
            `python -m diffusion_ode.tools.export` has written. Either may be in remote storage,
            "gs://bucket/runs/digits_vp", from where it is fetched first.
          checkpoint: a step, "best", or None for the newest.
          trusted: modules of your own, such as "my_module", whose classes its config may call.

        Raises:
          UserError: there is no sound checkpoint, or its config is missing or names what is not
            allowed.
        """
        check_devices()
        checkpoint = as_step(checkpoint)
        place = fetched_run(workdir, checkpoint)
        if not place.is_dir():
            run, at, step = str(workdir).rpartition("@")
            if at and step.isdecimal() and expanded(run).is_dir():
                raise UserError(
                    f"{place} is no folder: the checkpoint of a step is load({run!r}, {step})."
                )
            raise UserError(
                f"{place} is no folder: give the workdir of a training, such as runs/digits_vp."
            )
        checkpoints = stored_in(place)
        document = checkpoints.read_document(checkpoint)
        made_of, likelihood, sampler = model_documents(document, checkpoints.directory)
        build = functools.partial(construction.build, trusted=trusted)
        model = _of_kind(Model, build(made_of), place)
        abstract = abstract_parameters(model)
        restored = checkpoints.restore_parameters({"ema": abstract}, checkpoint)
        return cls(
            model,
            restored.state["ema"],
            likelihood and _of_kind(OdeLikelihood, build(likelihood), place),
            sampler and _of_kind(Sampler, build(sampler), place),
            {"step": restored.step, **restored.facts},
        )

    def log_prob(
        self,
        images: np.ndarray,
        key: Key | int = 0,
        *,
        num_importance: int = 1,
        likelihood: OdeLikelihood | None = None,
    ) -> LogProbability:
        """Log-likelihoods of images by the probability-flow ODE.

        K > 1 draws weighted by an estimated trace give no code lengths: they are biased towards too
        few bits (see `OdeLikelihood`). Give K = 1, or a likelihood with ExactTrace().

        An image's figure depends on its place in `images`, which its noise and probe follow from,
        and not on the others; but fewer images than lanes are solved by a program of fewer lanes,
        whose last bits differ, and then other steps may be taken: that moves a solve within its
        tolerance (of 16 digits at the default one by 0.03 nats rms, and by 0.14 at most).

        Args:
          images: levels, whole numbers 0..V−1, [n, h, w, c] or one image [h, w, c].
          key: of dequantisation and probes, or its seed; a fixed one by default, so that figures
            repeat.
          num_importance: K, draws per image.
          likelihood: another one than the model's own.

        Raises:
          UserError: the images are of another shape, or not levels of this model.
        """
        refuse_tracing("log_prob", images, key)
        levels = self.model.pixels.check(images)
        levels = levels.reshape(-1, *self.model.pixels.shape)
        results = sorted(
            (likelihood or self.likelihood).of_images(
                self.model,
                self.parameters,
                enumerate(levels),
                _key(key),
                num_importance=num_importance,
            )
        )
        converged = np.asarray([result.converged for result in results], bool)
        nats = np.asarray([result.log_likelihood for result in results], np.float64)
        return LogProbability(
            nats=nats,
            bits_per_dimension=units.bits_per_dimension(-nats, self.model.pixels.dimensions),
            nfe=np.asarray([result.nfe for result in results], np.int64),
            converged=converged,
        )

    def compress(self, images: np.ndarray, settings: "CodecSettings | None" = None) -> bytes:
        """Levels [n, h, w, c] as one file, about as long as `log_prob` says; see docs/codec.md.

        Only this model reads it, and only on the same kind of machine with the same libraries.
        UserError: there are no images, or not the model's; `constriction` is not installed.
        """
        from diffusion_ode.coding.container import compress
        from diffusion_ode.coding.settings import CodecSettings

        refuse_tracing("compress", images)
        return compress(self.model, self.parameters, images, settings or CodecSettings()).data

    def decompress(self, data: bytes) -> np.ndarray:
        """The images [n, h, w, c] of `compress` as they were; UserError if it cannot be sure."""
        from diffusion_ode.coding.container import decompress

        return decompress(self.model, self.parameters, data)

    def sample(
        self,
        num_images: int,
        key: Key | int,
        *,
        with_log_prob: bool = False,
        sampler: Sampler | None = None,
    ) -> Samples:
        """Draws images; image i of a key is the same however many are drawn.

        Args:
          num_images: n.
          key: of the noise, or its seed.
          with_log_prob: also judge the drawn images, by `log_prob`.
          sampler: another one than the model's own.
        """
        refuse_tracing("sample", num_images, key)
        numbers: Iterable[int] = range(check("num_images", num_images, Count))
        drawn = drawn_in_order(
            (sampler or self.sampler).draw(self.model, self.parameters, numbers, _key(key))
        )
        images = np.stack([sample.image for sample in drawn]).astype(self.model.pixels.dtype)
        converged = np.asarray([sample.converged for sample in drawn], bool)
        return Samples(
            images=images,
            nfe=np.asarray([sample.nfe for sample in drawn], np.int64),
            converged=converged,
            log_probability=self.log_prob(images).where(converged) if with_log_prob else None,
        )


def _key(key: Key | int) -> Key:
    """The key, or that of a seed.

    Raises:
      UserError: it is neither.
    """
    if isinstance(key, jax.Array | np.ndarray) and (key.ndim or not _is_whole(key)):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if (typed and key.ndim == 0) or (key.dtype == jnp.uint32 and key.shape == (2,)):
            return key
        raise UserError(
            f"key is an array {key.dtype}{list(key.shape)} and no single key: give"
            " jax.random.key(0), or the seed 0 alone."
        )
    if not _is_whole(key) or not 0 <= operator.index(key) < _SEEDS:
        raise UserError(
            f"key = {key} is neither a key nor a seed from 0 to 2³² − 1: give jax.random.key(0), or"
            " the seed 0 alone."
        )
    return jax.random.key(operator.index(key))


def _is_whole(key: Any) -> bool:
    """Whether it is a whole number of Python, NumPy or JAX."""
    if isinstance(key, jax.Array | np.ndarray | np.generic):
        return not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.dtype.kind in "iu"
    return isinstance(key, int) and not isinstance(key, bool)


def _of_kind(kind: Any, built: Any, folder: Path) -> Any:
    """What a config has made, if it is what it is for."""
    try:
        return fit(built, kind)
    except Misfit:
        raise UserError(
            f"The config in {folder} has {shown(built)} where {takes(kind)} belongs: restore it"
            " from a checkpoint of its run."
        ) from None


def model_documents(document: Any, folder: Path) -> tuple[Any, Any, Any]:
    """Of an experiment's config document, what a model is built from: model, likelihood, sampler.

    Args:
      document: the experiment's.
      folder: that it was found in, for the sentence.

    Raises:
      UserError: it has not all of them.
    """
    try:
        arguments = document["arguments"]
        likelihood = arguments["evaluate"]["arguments"]["ode"]
        return arguments["model"], likelihood, arguments["sample"]["arguments"]["sampler"]
    except (KeyError, TypeError) as missing:
        raise UserError(
            f"The checkpoint in {folder} has no config of {missing}: it was not saved by this"
            " program's training; train, or import it with diffusion_ode.tools.import_reference."
        ) from missing
