"""FID and its relatives: in closed form, and as torch-fidelity finds them."""

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.features import as_bytes, read_features
from diffusion_ode.evaluation.sample_quality import (
    Statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_and_recall,
)
from diffusion_ode.evaluation.torch_fidelity_inception import TorchFidelityInception


def features(seed, n, shift):
    normal = np.random.RandomState(seed).standard_normal((n, 8))
    return (normal @ np.diag(np.linspace(0.5, 1.5, 8)) + shift).astype(np.float32)


DRAWN, REAL = features(0, 1200, 0.1), features(1, 1500, 0.0)


def test_distance_of_gaussians_whose_covariances_commute_is_that_of_their_axes():
    rotation = np.linalg.qr(np.random.RandomState(3).standard_normal((6, 6)))[0]
    a, b = np.linspace(0.1, 2.0, 6), np.linspace(3.0, 0.0, 6)
    shift = np.arange(6.0)
    one = Statistics(shift, rotation @ np.diag(a) @ rotation.T)
    other = Statistics(np.zeros(6), rotation @ np.diag(b) @ rotation.T)
    expected = shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-6)


def test_distance_of_gaussians_in_two_dimensions_has_a_closed_form():
    """tr (AB)^½ = (tr AB + 2 (det AB)^½)^½ of matrices of two rows."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    root = np.sqrt(np.trace(a @ b) + 2.0 * np.sqrt(np.linalg.det(a @ b)))
    found = frechet_distance(Statistics(np.zeros(2), a), Statistics(np.ones(2), b))
    assert found == pytest.approx(2.0 + np.trace(a + b) - 2.0 * root, rel=1e-12)


def test_figures_are_those_of_torch_fidelity():
    """0.4.0 under torch 2.13.0: `*_features_to_metric` of these features, by its defaults."""
    fid = frechet_distance(Statistics.of(DRAWN), Statistics.of(REAL))
    assert fid == pytest.approx(0.0769630490211135, rel=1e-6)
    kid = kernel_distance(DRAWN, REAL)
    expected = (0.01570000410079956, 0.005381956841632739)
    np.testing.assert_allclose(kid, expected, rtol=1e-5)
    logits = (3 * np.random.RandomState(2).standard_normal((1200, 10))).astype(np.float32)
    score = inception_score(logits)
    np.testing.assert_allclose(score, (3.8016309844067386, 0.11271444886840862), rtol=1e-12)
    found = precision_and_recall(DRAWN[:300], REAL[:400])
    np.testing.assert_allclose(found, (0.8633333444595337, 0.8725000023841858), rtol=1e-7)


def test_score_of_one_class_is_one_and_of_all_classes_their_number():
    assert inception_score(np.zeros((100, 5))).mean == pytest.approx(1.0)
    certain = np.tile(1e3 * np.eye(5), (200, 1))
    assert inception_score(certain).mean == pytest.approx(5.0, rel=3e-2)  # its parts are not even


def test_what_lies_far_away_has_neither_precision_nor_recall():
    assert precision_and_recall(DRAWN[:50], DRAWN[:50]) == (1.0, 1.0)
    assert precision_and_recall(DRAWN[:50], DRAWN[:50] + 100.0) == (0.0, 0.0)
    with pytest.raises(UserError, match="give at least 4 of each"):
        precision_and_recall(DRAWN[:3], REAL)


def test_files_of_the_field_are_read(tmp_path):
    known = Statistics.of(DRAWN)
    np.savez(tmp_path / "adm.npz", mu=known.mean, sigma=known.covariance, mu_s=known.mean[:2])
    np.savez(tmp_path / "features.npz", features=DRAWN, logits=DRAWN)
    np.save(tmp_path / "features.npy", DRAWN)
    for name in ("adm.npz", "features.npz", "features.npy"):
        read = read_features(tmp_path / name)
        assert frechet_distance(read.statistics, known) == pytest.approx(0.0, abs=1e-6)
        assert (read.features is None) == (name == "adm.npz")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"mu": np.zeros(3)}, "give `features`"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, "not of the same features"),
        ({"features": np.zeros((2, 3), int)}, "finite floats of 2 axes"),
        ({"features": np.full((2, 3), np.nan)}, "not finite floats"),
        ({"features": np.zeros((1, 3))}, "at least two"),
        ({"features": np.array([{}])}, "no whole .npy or .npz file of numbers"),
        ({"features": np.float64(3)}, "finite floats of 2 axes"),
        ({"features": np.zeros((0, 3))}, "finite floats of 2 axes"),
        ({"features": np.full((2, 3), 1e300)}, "or beyond 1e"),
        ({"features": np.zeros((2, 9000))}, "at most 4096"),
        ({"features": np.zeros((3, 4)), "logits": np.zeros((2, 4))}, "of the same images"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "eigenvalue -1,"),
        ({"mu": np.zeros(2), "sigma": np.array([[2.0, 1.0], [0.0, 2.0]])}, "not symmetric"),
        ({"mu": np.full(2, 1e300), "sigma": np.eye(2)}, "or beyond 1e"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.inf)}, "not finite floats"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, arrays, says):
    np.savez(tmp_path / "file.npz", **arrays)
    with pytest.raises(UserError, match=says):
        read_features(tmp_path / "file.npz")
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("text.npz", "nothing.npz"):
        with pytest.raises(UserError):
            read_features(tmp_path / name)


def test_covariances_in_single_precision_of_few_images_are_taken(tmp_path):
    known = Statistics.of(np.random.RandomState(0).standard_normal((5, 30)))  # of rank 4
    np.savez(tmp_path / "few.npz", mu=np.float32(known.mean), sigma=np.float32(known.covariance))
    assert read_features(tmp_path / "few.npz").features is None


def test_levels_become_colours():
    levels = np.array([0, 8, 16], np.uint8).reshape(3, 1, 1, 1)
    colours = as_bytes(levels, 17)
    assert colours.shape == (3, 1, 1, 3) and colours.dtype == np.uint8
    assert colours[:, 0, 0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    with pytest.raises(UserError, match="give precomputed features"):
        as_bytes(np.zeros((2, 4, 4, 4), np.uint8), 256)


def test_a_network_without_torch_fidelity_says_so_before_it_is_used(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs torch-fidelity: pip install torch-fidelity"):
        TorchFidelityInception(__file__).check()


def test_a_network_without_its_weights_says_where_they_are(tmp_path):
    network = TorchFidelityInception(str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"get weights-inception-.* from https://github\.com"):
        network.features(np.zeros((2, 8, 8, 3), np.uint8))
