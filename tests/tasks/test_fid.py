"""Samples judged by features, and samples that are not lost."""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.features import Features
from diffusion_ode.tasks.fid import Fid
from diffusion_ode.tasks.sample import Sample
from tests.tasks.conftest import experiment, run_in


@dataclass(frozen=True)
class Means:
    """Three features and two classes by the mean of each image's rows."""

    weights: str
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
        Fid(Means("")).run(run_in(tmp_path, experiment()))
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
