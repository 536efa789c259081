"""Whatever is in the files of a workdir or of features, it is read or refused in one sentence."""

import numpy as np
import pytest

from diffusion_ode.configs import construction, documents
from diffusion_ode.evaluation.features import read_features
from diffusion_ode.evaluation.per_example import PerExampleTable, read_table
from diffusion_ode.training.history import remember
from diffusion_ode.workdir.result_files import read_json
from experiments import registry
from experiments.config.conversion import to_document
from tests.mutations import attack, counts

DOCUMENT = to_document(registry.configuration_of(registry.find("digits_vp")))


def noted(file):
    remember(file.parent, 7, DOCUMENT, {"version": "1"})


RANDOM = np.random.RandomState(0).standard_normal((6, 3))

READS = {
    "features.npy": (lambda file: np.save(file, RANDOM), read_features),
    "features.npz": (
        lambda file: np.savez_compressed(file, features=RANDOM, logits=RANDOM),
        read_features,
    ),
    "statistics.npz": (lambda file: np.savez(file, mu=np.ones(3), sigma=np.eye(3)), read_features),
    "config.json": (
        lambda file: documents.write(DOCUMENT, file),
        lambda file: construction.build(documents.read(file)),
    ),
    "history.json": (lambda file: remember(file.parent, 3, DOCUMENT, {}), noted),
    "result.json": (lambda file: file.write_text('{"bpd": 2.5, "nfe": [1, 2]}'), read_json),
    "per_example.csv": (
        lambda file: file.write_text("index,bound,ode\n0,1.5,2.5\n1,2.5,\n1,,-3.5e-2\n"),
        lambda file: (read_table(file), PerExampleTable(("bound", "ode"), file).__exit__()),
    ),
}


@counts
@pytest.mark.parametrize("name", READS)
def test_files_of_a_workdir(tmp_path, name, count):
    write, read = READS[name]
    file = tmp_path / name
    write(file)

    def attempt(changed):
        file.write_bytes(changed)
        return read(file)

    attack(file.read_bytes(), attempt, count)
