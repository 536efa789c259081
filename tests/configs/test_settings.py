"""A config as plain settings by path, as trackers and tables take it."""

from diffusion_ode.configs.construction import document_of
from diffusion_ode.configs.documents import settings
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.solvers.heun import Heun


def test_numbers_stay_numbers_and_pieces_go_by_their_names():
    document = {
        "call": "m:Experiment",
        "arguments": {
            "pixels": document_of(Pixels((8, 8, 1), 17)),
            "solver": document_of(Heun()),
            "base": None,
            "on": True,
            "rate": 0.5,
            "tasks": {"tuple": [document_of(Heun())]},
        },
    }
    assert settings(document) == {
        "pixels": "Pixels",
        "pixels.shape": "(8, 8, 1)",
        "pixels.levels": 17,
        "solver": "Heun",
        "base": "None",
        "on": True,
        "rate": 0.5,
        "tasks": "(Heun(),)",
    }
