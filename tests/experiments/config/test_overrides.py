import dataclasses
import importlib
import sys
from dataclasses import dataclass

import fiddle as fdl
import pytest

from diffusion_ode.configs import construction
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.objective import Objective
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.training.optimizer import AdamW, Optimizer
from experiments import registry
from experiments.config.building import build, sentence
from experiments.config.conversion import explicit, to_document
from experiments.config.overrides import override


def model():
    return explicit(
        fdl.Config(
            Model,
            path=fdl.Config(VariancePreserving),
            schedule=fdl.Config(LinearSchedule),
            parameterization=fdl.Config(VelocityPrediction),
            network=fdl.Config(UNet),
            pixels=fdl.Config(Pixels),
        )
    )


def overridden(*settings):
    return override(model(), settings)


def test_literals_are_set_and_the_original_is_left_alone():
    before = model()
    after = override(
        before, ["pixels.levels=17", "pixels.shape=(8, 8, 1)", "network.attention=True"]
    )
    assert (after.pixels.levels, after.pixels.shape, after.network.attention) == (
        17,
        (8, 8, 1),
        True,
    )
    assert before == model()


def test_later_settings_win():
    assert overridden("pixels.levels=3", "pixels.levels=4").pixels.levels == 4


def test_pieces_are_called_by_name_in_either_spelling():
    for text in (
        "straight_path()",
        "StraightPath()",
        "diffusion_ode.diffusion.straight_path.StraightPath()",
    ):
        assert fdl.get_callable(overridden(f"path={text}").path) is StraightPath


def test_a_piece_takes_arguments_and_can_then_be_set_itself():
    config = overridden("schedule=linear_schedule(-7, gamma_1=4)", "schedule.gamma_1=3.5")
    assert build(config).schedule == LinearSchedule(-7.0, 3.5)
    assert isinstance(config.schedule.gamma_0, float)


def test_pieces_nest():
    config = override(
        fdl.Config(_Holder, objective=fdl.Config(FlowMatching)),
        ["objective=second_order_flow_matching(weight=0.2, residual=independent_probes())"],
    )
    objective = build(config).objective
    assert isinstance(objective, SecondOrderFlowMatching)
    assert (objective.weight, type(objective.residual).__name__) == (0.2, "IndependentProbes")


def test_int_becomes_float_but_not_the_reverse_and_bool_is_neither():
    assert isinstance(overridden("schedule.gamma_1=6").schedule.gamma_1, float)
    for setting in ("pixels.levels=17.0", "pixels.levels=True", "schedule.gamma_1=True"):
        with pytest.raises(UserError, match=r"it takes an? (int|float)"):
            overridden(setting)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pixels.level=3", "did you mean pixels.levels"),
        ("levels=3", "did you mean pixels.levels"),
        ("pixel.levels=3", "did you mean pixels.levels"),
        ("network.parent=None", "no field 'network.parent'"),
        ("pixels.levels.more=3", "pixels.levels is 256"),
        ("pixels", "is not PATH=VALUE"),
        ("=3", "is not PATH=VALUE"),
        ("pixels.levels=\udcff", r"'pixels.levels=\\udcff' is no UTF-8"),
        ("pixels.levels=many", "pixels.levels cannot be 'many'; it takes an int"),
        ("pixels.levels=", "it takes an int"),
        ("pixels.levels='17'", "it takes an int"),
        ("pixels.levels={[]}", "it takes an int"),
        ("pixels.levels={{[]: 1}: 2}", "it takes an int"),
        ("network.attention=1", "it takes True or False"),
        ("network.attention=true", "it takes True or False"),
        ("pixels.shape=(8, 8)", r"it takes \(int, int, int\)"),
        ("pixels.shape=8", r"it takes \(int, int, int\)"),
        ("network.fourier_exponents=(2, 'x')", "it takes a tuple of int"),
        ("path=linear_schedule()", r"VariancePreserving\(\)"),
        ("path=3", "it takes a Path"),
        ("path=straight_pth()", "There is no piece 'straight_pth'; did you mean straight_path"),
        ("schedule=linear_schedule(gama_0=1)", "did you mean gamma_0"),
        ("schedule=linear_schedule(1, 2, 3)", "takes 2 arguments"),
        ("schedule=linear_schedule(1, gamma_0=2)", "twice"),
        ("schedule=linear_schedule(gamma_0='x')", "linear_schedule.gamma_0 cannot be \"'x'\""),
        ("schedule=linear_schedule(*[1])", r"no \* or"),
        ("schedule=linear_schedule(**{})", r"no \* or"),
        (
            "schedule=linear_schedule(learn_ends=True)",
            "has no field 'learn_ends'; that is for learned_scalar_schedule, learned_monotone",
        ),
    ],
)
def test_wrong_setting_is_one_sentence_with_the_remedy(setting, message):
    with pytest.raises(UserError, match=message) as refusal:
        overridden(setting)
    assert "\n" not in str(refusal.value)


def training():
    return override(
        fdl.Config(_Training, optimizer=fdl.Config(AdamW), solver=fdl.Config(Adams)),
        ["optimizer.learning_rate=warmed_up_then_cosine(peak=0.004, warmup_steps=150)"],
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate=1e-3", "did you mean optimizer.learning_rate.peak"),
        ("lr=1e-3", "did you mean optimizer.learning_rate.peak"),
        ("optimizer.lr=1e-3", "did you mean optimizer.learning_rate.peak"),
        ("learning_rate=warmed_up()", "did you mean optimizer.learning_rate"),
        ("optimizer=adam(lr=1e-3)", "adam has no field 'lr'; did you mean learning_rate"),
        ("optimizer=adam", r"a piece is called: adam\(learning_rate=…\)"),
        ("optimizer=adamz(1e-3)", "did you mean adam, radam or adamw"),
        ("solver=adamz()", "did you mean adams"),
        ("solver=adam()", r"it takes a Solver, e.g. Adams\(\)"),
        ("optimizer=adams()", r"it takes an Optimizer, e.g. .*AdamW\(\)"),
        ("optimizer=adm(1)", r"e.g. .*AdamW\(\); did you mean adam, radam or adamw\?"),
        ("optimizer.learning_rate=cosine(1e-3)", "did you mean cosine_decay_schedule"),
    ],
)
def test_what_is_suggested_is_what_the_field_takes(setting, message):
    with pytest.raises(UserError, match=message):
        override(training(), [setting])


@pytest.mark.parametrize("text", ["many", "('many')"])
def test_one_value_for_a_tuple_of_them_is_told_its_comma(text):
    with pytest.raises(UserError, match=r"a tuple of one has a comma, \('many',\)\.$"):
        override(training(), [f"names={text}"])


def test_one_piece_for_a_tuple_of_them_is_told_its_comma():
    for text in ("adams()", "(adams())", "adams"):
        with pytest.raises(UserError, match=r"a tuple of one has a comma, \(adams\(\),\)\.$"):
            override(training(), [f"solvers={text}"])
    with pytest.raises(UserError, match="did you mean adams"):
        override(training(), ["solvers=(adamz(),)"])


def test_a_number_in_place_of_a_schedule_is_said_with_the_field_that_keeps_it():
    said = []
    config = override(training(), ["optimizer.learning_rate=1e-3"], said.append)
    assert config.optimizer.learning_rate == 1e-3
    assert said == [
        "optimizer.learning_rate = 0.001 is in place of WarmedUpThenCosine; to keep that:"
        " --set optimizer.learning_rate.peak=1e-3"
    ]
    config = override(training(), ["optimizer.learning_rate.peak=1e-3"], said.append)
    assert config.optimizer.learning_rate.peak == 1e-3
    assert len(said) == 1


def test_a_field_that_only_another_piece_has_is_refused_with_its_name():
    config = registry.configuration_of(registry.find("digits_score_ode_3"))
    with pytest.raises(UserError, match="'third_order'; that is for high_order_directional"):
        override(config, ["train.objective.residual=single_probe(third_order=1.0)"])


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os').system('touch evil')",
        "os.system('touch evil')",
        "eval('1')",
        "open('evil', 'w')",
        "(lambda: 1)()",
        "[1 for _ in range(3)]",
        "1 + 1",
        "linear_schedule(gamma_0=__import__('os').getpid())",
        "f'{1}'",
        "LinearSchedule.__init__.__globals__",
        "{**{}}",
        "(" * 1000,
    ],
)
def test_nothing_is_evaluated(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        overridden(f"schedule={value}")
    assert not list(tmp_path.iterdir())


def test_piece_that_refuses_its_values_says_so_when_built():
    with pytest.raises(UserError) as refusal:
        build(overridden("schedule.gamma_0=7"))
    assert sentence(refusal.value).startswith("gamma_0 = 7.0 is not below")
    assert "Fiddle" not in sentence(refusal.value)


@dataclass(frozen=True)
class _Holder:
    objective: Objective


@dataclass(frozen=True)
class _Training:
    optimizer: Optimizer
    solver: Solver
    names: tuple[str, ...] = ()
    solvers: tuple[Solver, ...] = ()


OUTSIDE = """
import dataclasses
from diffusion_ode.diffusion.schedule import NoiseSchedule

@dataclasses.dataclass(frozen=True)
class MySchedule(NoiseSchedule):
    gamma_0: float = -7.0
    gamma_1: float = 5.0

    def gamma(self, time):
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * time

def my_schedule(gamma_0=-6.0):
    return MySchedule(gamma_0)
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    (tmp_path / "my_own_pieces.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield "my_own_pieces"
    sys.modules.pop("my_own_pieces", None)


def test_piece_of_ones_own_module_is_set_by_its_dotted_name_and_loads_where_trusted(outside):
    config = override(model(), [f"schedule={outside}.MySchedule(gamma_0=-6)"])
    built = fdl.build(config)
    assert type(built.schedule).__name__ == "MySchedule"
    assert built.schedule.gamma_0 == -6.0
    document = to_document(config)
    with pytest.raises(UserError, match=r"trusted=\('my_own_pieces',\)"):
        construction.build(document)
    assert construction.build(document, trusted=(outside,)) == built
    made = fdl.build(override(model(), [f"schedule={outside}.my_schedule(-5.0)"]))
    assert made.schedule == dataclasses.replace(built.schedule, gamma_0=-5.0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("schedule=my_own_pieces.MyShedule()", "did you mean MySchedule"),
        ("schedule=my_own_pieces.MySchedule(g=1)", "has no field 'g'"),
        ("schedule=not_there.MySchedule()", "no module 'not_there'"),
        ("schedule=os.system('true')", "no piece 'system'"),
        ("schedule=subprocess.Popen('true')", "no piece 'Popen'"),
        ("schedule=optax.not_there()", "no piece 'not_there'"),
        ("path=my_own_pieces.MySchedule()", "it takes a Path"),
    ],
)
def test_wrong_piece_of_ones_own_is_refused_in_a_sentence(outside, setting, words):
    with pytest.raises(UserError, match=words):
        override(model(), [setting])


def test_what_a_librarys_function_refuses_is_a_sentence_with_its_place():
    schedule = "optimizer.learning_rate=optax.cosine_decay_schedule(1.0, 0)"
    config = override(training(), [schedule])
    with pytest.raises(
        UserError, match=r"^optimizer.learning_rate cannot be made \(ValueError: .*decay_steps"
    ) as refusal:
        build(config)
    assert "\n" not in str(refusal.value)
