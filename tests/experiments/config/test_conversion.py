import dataclasses

import fiddle as fdl
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.configs import construction
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from experiments.config.conversion import explicit, to_document


def model_config():
    return fdl.Config(
        Model,
        path=fdl.Config(VariancePreserving),
        schedule=LinearSchedule(gamma_0=-7.88),  # an object: it becomes a config
        parameterization=fdl.Config(VelocityPrediction),
        network=fdl.Config(UNet, features=32, blocks=2),
        pixels=fdl.Config(Pixels, shape=(8, 8, 1)),
    )


def test_explicit_config_spells_out_every_default():
    config = explicit(model_config())
    assert config.schedule == fdl.Config(LinearSchedule, gamma_0=-7.88, gamma_1=5.0)
    assert config.pixels.levels == 256
    assert config.network.fourier_exponents == (6, 7)
    assert not {"parent", "name"} & set(config.network.__arguments__)


def test_numbers_of_numpy_are_numbers():
    shape, levels = [np.int64(8), np.array(8), jnp.int32(1)], np.uint16(17)
    pixels = Pixels(shape=shape, levels=levels)
    assert hash(pixels) == hash(Pixels((8, 8, 1), 17))
    assert (pixels, type(pixels.levels)) == (Pixels((8, 8, 1), 17), int)
    assert type(LinearSchedule(gamma_0=np.float32(-7)).gamma_0) is float
    document = to_document(fdl.Config(Pixels, shape=tuple(shape), levels=levels))
    assert construction.build(document) == pixels
    for wrong in (np.bool_(True), np.float64(17), np.array([17]), np.nan):
        with pytest.raises(UserError, match=r"is not an int in"):
            Pixels(levels=wrong)


def test_default_factories_become_configs():
    config = explicit(fdl.Config(FlowMatching))
    assert isinstance(config.times, fdl.Config)
    assert isinstance(config.times.uniforms, fdl.Config)


def test_making_explicit_changes_nothing_that_is_built_and_is_done_once():
    config = model_config()
    assert fdl.build(explicit(config)) == fdl.build(config)
    assert explicit(explicit(config)) == explicit(config)


def test_explicit_config_shares_nothing():
    pixels = fdl.Config(Pixels)
    config = explicit(fdl.Config(Pair, first=pixels, second=pixels))
    config.first.levels = 17
    assert (config.second.levels, pixels.levels) == (256, 256)


def test_config_to_document_and_back_is_the_same_config():
    document = to_document(model_config())
    assert explicit(construction.build(document)) == explicit(model_config())
    assert to_document(construction.build(document)) == document


def test_document_builds_what_the_config_builds():
    assert construction.build(to_document(model_config())) == fdl.build(model_config())


def test_fields_keep_the_order_of_the_constructor():
    config = fdl.Config(LinearSchedule)
    config.gamma_1 = 4.0
    config.gamma_0 = -3.0
    assert list(to_document(config)["arguments"]) == ["gamma_0", "gamma_1"]


def test_library_functions_survive_the_round_trip():
    document = to_document(fdl.Config(Pair, first=nn.gelu, second={"a": [1, (2.5, None)]}))
    assert document["arguments"] == {
        "first": {"name": "flax.linen:gelu"},
        "second": {"dict": {"a": [1, {"tuple": [2.5, None]}]}},
    }


def test_what_cannot_be_written_down_is_refused():
    with pytest.raises(UserError, match="cannot hold"):
        to_document(fdl.Config(Pair, first=lambda: 1, second=None))


def test_config_of_an_outsiders_class_is_built_only_if_it_is_trusted():
    document = to_document(fdl.Config(Pair, first=1, second=outsiders_function))
    with pytest.raises(UserError, match=r"not part of this program.* trusted=\('tests\.exp"):
        construction.build(document)
    built = construction.build(document, trusted=("tests.experiments",))
    assert built == Pair(1, outsiders_function)


def outsiders_function(x):
    return x


@dataclasses.dataclass(frozen=True)
class Pair:
    first: object
    second: object
