import importlib
import sys
import textwrap

import fiddle as fdl
import pytest

from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.outside import SOURCES
from experiments import registry
from experiments.registry import experiment


@pytest.fixture
def family(monkeypatch):
    """A root, its child and its grandchild, registered for one test."""
    monkeypatch.setattr(registry, "_ENTRIES", {})

    @experiment(data="toy", source="nobody", published=2.5)
    def root():
        """The root
        is plain.

        More words.
        """
        return fdl.Config(LinearSchedule)

    @experiment(parent="root")
    def child(config):
        """A longer schedule changes something."""
        config.gamma_1 = 6.0  # only visible because the parent's config is explicit
        return config

    @experiment(parent="child", data="toy_augmented")
    def grandchild(config):
        """So does its beginning."""
        config.gamma_0 = -10.0
        return config

    return registry


def test_facts_are_known_without_building(family):
    entry = family.find("root")
    assert (entry.hypothesis, entry.data, entry.source, entry.published) == (
        "The root is plain.",
        "toy",
        "nobody",
        2.5,
    )
    assert [e.name for e in family.entries()] == ["root", "child", "grandchild"]


def test_experiment_derives_from_its_parents_config(family):
    config = family.configuration_of(family.find("grandchild"))
    assert config == fdl.Config(LinearSchedule, gamma_0=-10.0, gamma_1=6.0)
    assert family.configuration_of(family.find("root")).gamma_1 == 5.0


def test_data_set_is_inherited(family):
    assert family.data_of(family.find("child")) == "toy"
    assert family.data_of(family.find("grandchild")) == "toy_augmented"


def test_names_are_exact_and_the_nearest_is_suggested(family):
    with pytest.raises(UserError, match="did you mean child or grandchild"):
        family.find("chld")
    with pytest.raises(UserError, match="There is no experiment 'roo'"):
        family.find("roo")


def test_duplicate_names_are_refused(family):
    def other():
        """Another root."""
        return fdl.Config(LinearSchedule)

    other.__name__ = "root"
    with pytest.raises(UserError, match="already registered"):
        experiment()(other)


def test_experiment_without_hypothesis_is_refused(family):
    with pytest.raises(UserError, match="hypothesis"):
        experiment()(lambda: None)


def test_importing_the_experiments_again_is_harmless():
    before = registry.entries()
    package = importlib.import_module("experiments")
    importlib.reload(package)
    for entry in before:
        importlib.reload(sys.modules[entry.function.__module__])
    assert [entry.name for entry in registry.entries()] == [entry.name for entry in before]


def test_unknown_parent_and_circle_are_explained(family):
    @experiment(parent="nobody")
    def orphan(config):
        """None."""

    @experiment(parent="circle")
    def circle(config):
        """None."""

    with pytest.raises(UserError, match="no experiment 'nobody'"):
        family.configuration_of(family.find("orphan"))
    with pytest.raises(UserError, match="derives from itself"):
        family.configuration_of(family.find("circle"))


def test_experiment_that_returns_nothing_is_explained(family):
    @experiment(parent="root")
    def forgetful(config):
        """None."""

    with pytest.raises(UserError, match="return the config"):
        family.configuration_of(family.find("forgetful"))


@pytest.fixture
def outside(family, tmp_path, monkeypatch):
    (tmp_path / "my_experiments.py").write_text(
        textwrap.dedent('''
            import fiddle as fdl
            from diffusion_ode.diffusion.schedule import LinearSchedule
            from experiments.registry import experiment

            @experiment(parent="root")
            def derived(config):
                """Mine."""
                config.gamma_0 = -1.0
                return config

            def plain():
                return fdl.Config(LinearSchedule, gamma_0=-2.0)

            def undecorated(config):
                return config
        ''')
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield family
    sys.modules.pop("my_experiments", None)
    SOURCES.pop("my_experiments", None)  # or every later run of this process would keep it


def test_experiment_from_outside_the_repository(outside):
    derived = outside.find("my_experiments:derived")
    assert outside.configuration_of(derived).gamma_0 == -1.0
    assert derived.parent == "root"
    plain = outside.find("my_experiments:plain")
    assert (plain.name, outside.configuration_of(plain).gamma_0) == ("plain", -2.0)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("my_experiments:undecorated", "names no parent"),
        ("my_experiments:derivd", "did you mean derived"),
        ("my_experiments:fdl", "no function 'fdl'"),
        ("nowhere_at_all:x", "no module 'nowhere_at_all'"),
        (":x", "no module ''"),
        ("..x:y", "no module '..x'"),
        (f"{'a.' * 2000}b:c", "no module 'a.a.a"),
        (f"my_experiments.{'a.' * 200}b:c", "no module 'my_experiments.a"),
    ],
)
def test_wrong_reference_outside_is_explained(outside, reference, message):
    with pytest.raises(UserError, match=message):
        outside.find(reference)


def test_refusal_within_a_module_from_outside_is_told_in_its_own_words(
    family, tmp_path, monkeypatch
):
    (tmp_path / "my_twin.py").write_text(
        "from experiments.registry import experiment\n\n"
        "@experiment(parent='root')\n"
        "def child(config):\n"
        '    """Its name is taken."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="'child' of my_twin is already registered by"):
        family.find("my_twin:child")
