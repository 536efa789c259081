"""The task that judges drawn images by features of a network: FID and its relatives."""

import contextlib
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.features import (
    ChecksItself,
    FeatureNetwork,
    Known,
    as_bytes,
    check_channels,
    read_features,
)
from diffusion_ode.evaluation.judged_images import Split
from diffusion_ode.evaluation.sample_quality import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_and_recall,
)
from diffusion_ode.evaluation.torch_fidelity_inception import SOURCE, WEIGHTS
from diffusion_ode.foreign import open_regular, refused
from diffusion_ode.foreign_arrays import read_arrays
from diffusion_ode.home import expanded
from diffusion_ode.ranges import Within
from diffusion_ode.reporting.quantities import counted
from diffusion_ode.tasks.interruptible import interruptible
from diffusion_ode.tasks.loading import find_images
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Subject, made_before, made_in
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.result_files import read_json, write_json

_Several = Annotated[int, Within(2, 2**31 - 1)]  # one image has no covariance
_AXES = 4  # of images
_COMPARABLE = 50_000  # drawn images, of which papers' figures are


@dataclass(frozen=True)
class Fid:
    """FID, KID, Inception score, precision and recall of the images that `sample` has drawn.

    Features are computed by a network, or read: then no image is looked at.

    Args:
      network: that computes features, such as `torch_fidelity_inception(weights='FILE')`; a class
        of your own with `features(images)` is set by its dotted name.
      features: a file with features or statistics of the drawn images, in their place.
      reference: a file with those of real images; None: computed of the experiment's.
      samples: an `.npz` with `images`; None: the newest that the workdir has.
      split: of the experiment's data that are the real images.
      num_real: the first n of it; None for all.
    """

    network: FeatureNetwork | None = None
    features: str | None = None
    reference: str | None = None
    samples: str | None = None
    split: Split = "train"
    num_real: _Several | None = None

    __post_init__ = check_fields

    def check(self, experiment: Subject) -> None:
        """Refuses to compute features by nothing, or of images that have none."""
        if self.network is None and not self._by_files:
            raise UserError(
                "The task fid needs a network or features: give --set"
                f" \"fid.network=torch_fidelity_inception('FILE')\" with {WEIGHTS} of {SOURCE}, or"
                " --set fid.features=FILE and --set fid.reference=FILE, .npz of `features` [n, d]"
                " or of `mu` and `sigma`."
            )
        if not self._by_files:
            check_channels(experiment.model.pixels.shape[-1])
            if isinstance(self.network, ChecksItself):
                self.network.check()
        drawn = getattr(getattr(experiment, "sample", None), "num_images", 2)
        if self.features is None and drawn < 2 and made_before(experiment, "fid", "sample"):
            raise UserError(
                f"The task fid judges how samples spread, and sample.num_images = {drawn}: draw at"
                " least two; papers take 50,000."
            )

    def check_reading(self, run: Run) -> None:
        """Refuses files and images that are not there, or not what they are to be.

        Samples, and features of a task of one's own, may be made only after training.
        """
        if processes.count() > 1:
            raise UserError("The task fid runs in one process: give --num_processes=1.")
        weights = None if self._by_files else getattr(self.network, "weights", None)
        if weights is not None:
            with refused(lambda why: f"fid.network's weights = {weights} cannot be read: {why}."):
                open_regular(expanded(weights)).close()
        if self.reference is None and self.split == "validation":  # the others are there
            find_images(run, self.split, self.num_real)
        if made_before(run.experiment, "fid"):
            return
        files = [file for file in (self.features, self.reference) if file is not None]
        known = [read_features(expanded(file)) for file in files]
        if self._by_files:
            _check_widths(*known)
        if self.features is None:
            self._check_samples(run)

    def _check_samples(self, run: Run) -> None:
        made = made_before(run.experiment, "fid", "sample")
        names = r"\d+(-\d+)?/samples\.npz"
        ours = self.samples is None or made_in(
            run.workdir / "samples", expanded(self.samples), names
        )
        if not (made and ours):
            run.experiment.model.pixels.check(_drawn_images(self._samples(run)))

    @property
    def _by_files(self) -> bool:
        return self.features is not None and self.reference is not None

    def run(self, run: Run) -> TaskResult:
        """Writes `fid.json` beside the samples.

        Figures that were found from something else are left where they are, and these go to
        `fid-2.json`.
        """
        self.check(run.experiment)
        self.check_reading(run)
        place = None if self.features is not None else self._samples(run)
        with interruptible(run) as console:
            if place is None:
                drawn, folder = read_features(expanded(str(self.features))), run.workdir / "samples"
            else:
                images = run.experiment.model.pixels.check(_drawn_images(place))
                console.print(f"features of {counted(len(images), 'drawn image')}")
                drawn, folder = self._computed(images, run), place.parent
            if self.reference is not None:
                real, against = read_features(expanded(self.reference)), self.reference
                seen = {"reference_sha256": _digest(against)}
            else:
                images = find_images(run, self.split, self.num_real)
                seen = {"data_fingerprint": images.identity.fingerprint}
                against = (
                    f"{counted(len(images), f'{self.split} image')} of {run.experiment.data.name}"
                )
                console.print(f"features of {against}")
                real = self._computed(images.levels, run)
            figures = _figures(drawn, real)
            run.begin()
            console.log_to(run.log_path)
            source = str(place or self.features)
            by = "features of files" if self._by_files else _name(self.network)
            found_from = {"drawn": source, "drawn_sha256": _digest(source), "reference": against}
            found_from |= {**seen, "by": by}
            weights = None if self._by_files else getattr(self.network, "weights", None)
            if weights is not None:
                found_from["weights_sha256"] = _digest(weights)
            file = _file(folder, found_from)
            run.recorder.check_there()
            write_json(file, {**found_from, **figures})
        rows = [*_rows(figures), ("against", against), ("by", by)]
        count = figures["num_drawn"]
        if count is not None and count < _COMPARABLE:
            rows.append(("", f"FID is too high of {counted(count, 'image')}; papers take 50,000"))
        return TaskResult(rows, [("figures", file)])

    def _samples(self, run: Run) -> Path:
        """The file of the drawn images."""
        if self.samples is not None:
            return expanded(self.samples)
        found = sorted(run.workdir.glob("samples/*/samples.npz"), key=lambda p: p.stat().st_mtime)
        if run.checkpoint is not None:
            found = [p for p in found if p.parent.name.partition("-")[0] == run.checkpoint]
        if not found:
            raise UserError(
                f"{run.workdir} has no such samples: draw some with"
                f" `{run.next_command('--task=sample', '--set=sample.num_images=10000')}`."
            )
        return found[-1]

    def _computed(self, images: np.ndarray, run: Run) -> Known:
        assert self.network is not None  # else there would be files
        features = self.network.features(as_bytes(images, run.experiment.model.pixels.levels))
        return Known.of(_name(self.network), features)


def _name(network: FeatureNetwork | None) -> str:
    return getattr(network, "name", "a network")


def _digest(path: str) -> str:
    with open_regular(expanded(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(folder: Path, found_from: Mapping[str, Any]) -> Path:
    """The first that is free, or holds figures found from the same."""
    for suffix in itertools.chain([""], (f"-{i}" for i in itertools.count(2))):
        file = folder / f"fid{suffix}.json"
        if not file.exists():
            return file
        with contextlib.suppress(UserError, AttributeError):  # it holds something else
            if found_from.items() <= read_json(file).items():
                return file
    raise AssertionError  # numbers do not end


def _are_flags(converged: Any, images: np.ndarray) -> bool:
    return converged.dtype == bool and converged.shape == images.shape[:1]


def _drawn_images(path: Path) -> np.ndarray:
    """Levels [n, h, w, c], n > 1.

    Raises:
      UserError: there are none, or some are noise.
    """
    arrays = read_arrays(path, ("images", "converged"))
    images, converged = arrays.get("images", np.empty(0)), arrays.get("converged")
    if converged is None:
        converged = np.ones(len(images), bool) if images.ndim else np.True_
    if images.ndim != _AXES or images.dtype.kind != "u" or not _are_flags(converged, images):
        raise UserError(
            f"{path} is no .npz with `images` of levels [n, h, w, c]: give what --task=sample has"
            " written."
        )
    if not np.all(converged):
        raise UserError(
            f"{np.sum(converged == 0)} of the images in {path} have not converged, so they are"
            " noise: draw them again with a larger sample.sampler.controller.max_steps."
        )
    if len(images) < 2:
        raise UserError(f"{path} has {counted(len(images), 'image')}: draw at least two.")
    return images


def _check_widths(drawn: Known, real: Known) -> None:
    sizes = [len(known.statistics.mean) for known in (drawn, real)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"The drawn images have {sizes[0]} features and the real ones {sizes[1]}: give both of"
            " one network."
        )


def _figures(drawn: Known, real: Known) -> dict[str, Any]:
    """All that can be said of what is known; None where that is too little."""
    _check_widths(drawn, real)
    figures: dict[str, Any] = {
        "fid": frechet_distance(drawn.statistics, real.statistics),
        "num_drawn": None if drawn.features is None else len(drawn.features.pooled),
        "num_real": None if real.features is None else len(real.features.pooled),
        **dict.fromkeys(("kid", "kid_std", "inception_score", "inception_score_std")),
        **dict.fromkeys(("precision", "recall")),
    }
    if drawn.features is not None and drawn.features.logits is not None:
        score = inception_score(drawn.features.logits)
        figures |= {"inception_score": score.mean, "inception_score_std": score.deviation}
    if drawn.features is not None and real.features is not None:
        pooled = drawn.features.pooled, real.features.pooled
        distance = kernel_distance(*pooled)
        figures |= {"kid": distance.mean, "kid_std": distance.deviation}
        figures |= dict(zip(("precision", "recall"), precision_and_recall(*pooled), strict=True))
    return figures


def _rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("FID", f"{figures['fid']:.4f}")]
    if figures["kid"] is not None:
        deviation = figures["kid_std"]
        spread = "" if deviation is None else f" ± {deviation:.6f} over subsets"
        rows += [
            ("KID", f"{figures['kid']:.6f}{spread}"),
            ("precision, recall", f"{figures['precision']:.4f}, {figures['recall']:.4f}"),
        ]
    if figures["inception_score"] is not None:
        deviation = figures["inception_score_std"]
        rows.append(("Inception score", f"{figures['inception_score']:.4f} ± {deviation:.4f}"))
    return rows
