"""Samples judged by features, and samples that are not lost."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.features import Features
from diffusion_ode.tasks.fid import Fid, _drawn_images
from diffusion_ode.tasks.kept_apart import folder_of
from diffusion_ode.tasks.sample import Sample
from tests.mutations import attack, counts
from tests.tasks.conftest import experiment, run_in


@dataclass(frozen=True)
class Means:
    """Three features and two classes by the mean of each image's rows."""

    weights: str = __file__
    name: str = "means"

    def features(self, images):
        assert images.dtype == np.uint8 and images.shape[1:] == (8, 8, 3)
        pooled = images.astype(np.float32).mean((2, 3))
        return Features(pooled[:, :3], pooled[:, :2])


@pytest.fixture
def sampled(workdir):
    made = experiment()
    made.sample.run(run_in(workdir, made))
    return workdir


def test_samples_are_judged_beside_the_data_by_a_network_of_ones_own(sampled, capsys):
    weights, made = sampled / "weights.pth", experiment()
    weights.write_bytes(b"numbers")
    result = Fid(Means(str(weights)), num_real=40).run(run_in(sampled, made))
    figures = json.loads((sampled / "samples/2/fid.json").read_text())
    assert figures["weights_sha256"] == hashlib.sha256(b"numbers").hexdigest()
    assert figures["data_fingerprint"] == run_in(sampled, made).load_data().fingerprint
    assert (figures["num_drawn"], figures["num_real"]) == (5, 40)
    assert figures["fid"] > 0 and figures["by"] == "means"
    assert {"kid", "precision", "recall", "inception_score"} <= figures.keys()
    assert dict(result.rows)["FID"] == f"{figures['fid']:.4f}"
    assert "40 train images of digits" in capsys.readouterr().out


def test_files_alone_are_enough(tmp_path):
    drawn = np.random.RandomState(0).standard_normal((20, 4))
    np.save(tmp_path / "drawn.npy", drawn)
    np.savez(tmp_path / "real.npz", mu=np.zeros(4), sigma=np.eye(4))
    files = {"features": str(tmp_path / "drawn.npy"), "reference": str(tmp_path / "real.npz")}
    result = Fid(**files).run(run_in(tmp_path, experiment()))
    covariance, mean = np.cov(drawn, rowvar=False), drawn.mean(0)
    root = np.sqrt(np.linalg.eigvalsh(covariance)).sum()
    expected = mean @ mean + np.trace(covariance) + 4 - 2 * root
    assert float(dict(result.rows)["FID"]) == pytest.approx(expected, abs=1e-4)


def test_figures_found_from_other_files_keep_the_first(tmp_path):
    normal = np.random.RandomState(0).standard_normal((3, 20, 4))
    np.save(tmp_path / "real.npy", normal[0])

    def judged(drawn):
        np.save(tmp_path / "drawn.npy", drawn)
        files = {"features": str(tmp_path / "drawn.npy"), "reference": str(tmp_path / "real.npy")}
        result = Fid(**files).run(run_in(tmp_path, experiment()))
        return result.written[0][1].name, dict(result.rows)["KID"]

    first, kid = judged(normal[1])
    assert first == "fid.json" and "±" not in kid  # each subset is the whole set
    before = json.loads((tmp_path / "samples/fid.json").read_text())
    assert before["kid_std"] is None
    drawn = (tmp_path / "drawn.npy").read_bytes()
    assert before["drawn_sha256"] == hashlib.sha256(drawn).hexdigest()
    assert judged(normal[2])[0] == "fid-2.json"  # by the same name
    assert judged(normal[2])[0] == "fid-2.json"
    assert judged(normal[1])[0] == "fid.json"
    assert json.loads((tmp_path / "samples/fid.json").read_text()) == before


def test_without_network_or_features_it_says_where_they_are(tmp_path):
    with pytest.raises(UserError, match=r"weights-inception.*https://github.*fid\.reference=FILE"):
        Fid().run(run_in(tmp_path, experiment()))
    with pytest.raises(UserError, match=r"has no such samples: draw some with `.*--task=sample"):
        Fid(Means()).run(run_in(tmp_path, experiment()))
    assert not list(tmp_path.iterdir())


def test_a_second_sampling_keeps_the_first(sampled):
    first = (sampled / "samples/2/samples.npz").read_bytes()
    made = experiment()
    again = replace(made.sample, pictures=True)
    assert again.run(run_in(sampled, made)).written[0][1] == sampled / "samples/2/samples.npz"
    images = np.load(sampled / "samples/2/samples.npz")["images"]
    with Image.open(sampled / "samples/2/pictures/00004.png") as picture:
        np.testing.assert_array_equal(
            np.asarray(picture), np.rint(images[4, ..., 0] * (255 / 16)).astype(np.uint8)
        )
    other: Sample = replace(made.sample, seed=1)
    assert other.run(run_in(sampled, made)).written[0][1] == sampled / "samples/2-2/samples.npz"
    np.testing.assert_array_equal(np.load(sampled / "samples/2/samples.npz")["images"], images)
    assert len(first) == len((sampled / "samples/2/samples.npz").read_bytes())


DAMAGE = (
    lambda content: b"",
    lambda content: content[:-30],
    lambda content: _with_damaged_member(content, "drawn_by.npy"),
    lambda content: b"words",
)


def _with_damaged_member(content, name):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo(name)
    start = entry.header_offset + 30 + len(name)
    return content[: start + 20] + b"\xff" * 12 + content[start + 32 :]


def test_a_sampling_beside_a_damaged_one_is_kept(sampled):
    made, file = experiment(), sampled / "samples/2/samples.npz"
    whole = file.read_bytes()
    images = np.load(file)["images"]
    for damage in DAMAGE:
        file.write_bytes(damage(whole))
        written = folder_of(
            sampled / "samples", "2", "samples.npz", ("drawn_by", str(_drawn_by(whole)))
        )
        assert written == sampled / "samples/2-2"
    made.sample.run(run_in(sampled, made))
    np.testing.assert_array_equal(np.load(sampled / "samples/2-2/samples.npz")["images"], images)
    assert file.read_bytes() == b"words"


def _drawn_by(content):
    return np.load(io.BytesIO(content))["drawn_by"]


def test_a_place_that_can_hold_no_samples_is_refused_before_any_is_drawn(workdir):
    (workdir / "samples").write_text("no folder")
    made = experiment()
    with pytest.raises(
        UserError, match="samples is no folder, which it is in a run's workdir: move it"
    ):
        made.sample.run(run_in(workdir, made))
    assert not (workdir / "log.txt").exists()


@counts
def test_samples_that_are_changed_are_judged_or_refused(tmp_path, count):
    file = tmp_path / "samples.npz"
    arrays = {"images": np.zeros((3, 8, 8, 1), np.uint8), "converged": np.ones(3, bool)}
    np.savez_compressed(file, **arrays)

    def attempt(changed):
        file.write_bytes(changed)
        return _drawn_images(file)

    attack(file.read_bytes(), attempt, count)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, "is no .npz with `images` of levels"),
        ({"images": np.zeros((3, 4))}, "is no .npz with `images` of levels"),
        ({"images": np.uint8(3)}, "is no .npz with `images` of levels"),
        ({"images": np.zeros((1, 8, 8, 1), np.uint8)}, "1 image: draw at least two"),
        (
            {"images": np.zeros((2, 8, 8, 1), np.uint8), "converged": np.array([True, False])},
            "^1 of the images in .* have not converged",
        ),
        ({"images": np.full((2, 8, 8, 1), 17, np.uint8)}, "17"),
    ],
)
def test_files_that_hold_no_samples_are_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "drawn.npz", **arrays)
    with pytest.raises(UserError, match=says):
        Fid(Means(), samples=str(tmp_path / "drawn.npz")).run(run_in(tmp_path, experiment()))
    np.save(tmp_path / "drawn.npy", np.zeros((3, 8, 8, 1), np.uint8))
    with pytest.raises(UserError, match=r"is no \.npz with `images`"):
        _drawn_images(tmp_path / "drawn.npy")


def test_a_network_whose_features_are_not_finite_is_named(sampled):
    @dataclass(frozen=True)
    class Nothing(Means):
        def features(self, images):
            return Features(np.full((len(images), 3), np.nan))

    with pytest.raises(UserError, match=r"^means has `features` .* not finite"):
        Fid(Nothing()).run(run_in(sampled, experiment()))


@pytest.mark.parametrize("place", ["", "grid.png", "samples.npz", "pictures"])
def test_samples_go_beside_a_folder_with_something_else_in_their_place(place, tmp_path):
    def folder():
        return folder_of(tmp_path, "7", "samples.npz", ("drawn_by", "me"), ("pictures",)).name

    assert folder() == "7"
    path = tmp_path / "7" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("other") if place in ("", "pictures") else path.mkdir()
    assert folder() == "7-2"
