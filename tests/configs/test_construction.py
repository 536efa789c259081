import json
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax.numpy as jnp
import pytest

from diffusion_ode.configs import allowed, construction, documents
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError

SCHEDULE = "diffusion_ode.diffusion.schedule:LinearSchedule"


def call(target, **arguments):
    return {"call": target, "arguments": arguments}


def test_document_of_constructor_calls_builds_the_objects():
    document = {
        "tuple": [
            call(SCHEDULE, gamma_0=-7.5),
            call("diffusion_ode.diffusion.variance_preserving:VariancePreserving"),
            {"dict": {"rates": [0.5, None, True]}},
        ]
    }
    built = construction.build(document)
    assert built == (
        LinearSchedule(gamma_0=-7.5),
        VariancePreserving(),
        {"rates": [0.5, None, True]},
    )


def test_flax_module_builds_without_its_bookkeeping():
    network = construction.build(
        call("diffusion_ode.networks.unet:UNet", features=32, fourier_exponents={"tuple": [2, 3]})
    )
    assert (network.features, network.fourier_exponents) == (32, (2, 3))
    with pytest.raises(UserError, match="no field 'parent'"):
        construction.build(call("diffusion_ode.networks.unet:UNet", parent=None))


def test_library_functions_and_dtypes_are_named_not_called():
    assert construction.build({"name": "flax.linen:gelu"}) is nn.gelu
    assert construction.build({"name": "jax.numpy:bfloat16"}) is jnp.bfloat16
    assert allowed.name_of(nn.silu) == "flax.linen:silu"
    assert allowed.name_of(len) is None


@pytest.mark.parametrize(
    "target",
    [
        "tests.strangers.network:DiT",
        "os:system",
        "os.system",
        "subprocess:Popen",
        "builtins:eval",
        "builtins:__import__",
        "importlib:import_module",
        "diffusion_ode.configs.allowed:importlib",
        "diffusion_ode.configs.allowed:importlib.import_module",
        "diffusion_ode.configs.allowed:_import",
        "diffusion_ode.configs.construction:build",
        "diffusion_ode.configs.documents:write",
        "diffusion_ode.diffusion.schedule:dataclass",
        "diffusion_ode.diffusion.model:LinearSchedule",
        "diffusion_ode.errors:UserError",
        "data.pipeline:np",
        "data.pipeline.np:load",
        "experiments.registry:Entry",
        "launch.run:main",
        "pathlib:Path",
        "optax:__builtins__",
        "optax:tree_map",
        "optax.os:system",
        "flax.linen:Module",
        "diffusion_ode..os:system",
        "diffusion_ode.__main__:X",
        "../../tmp/evil:X",
        "",
        ":",
        "x" * 10_000,
        f"diffusion_ode{'.a' * 2000}:B",
    ],
)
@pytest.mark.parametrize("form", ["call", "name"])
def test_document_may_name_nothing_outside_the_allow_list(target, form):
    document = {"name": target} if form == "name" else {"call": target, "arguments": {}}
    with pytest.raises(UserError) as refusal:
        construction.build(document)
    assert len(str(refusal.value)) < 500
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "target", ["tests.strangers.path:jnp", "tests.strangers.path:Path", "tests.strangers.path:Gone"]
)
def test_a_trusted_module_lends_only_what_it_defines(target):
    with pytest.raises(UserError, match="defines no class or function"):
        construction.build({"name": target}, trusted=("tests",))


def test_a_trusted_module_is_no_longer_name_that_begins_alike():
    with pytest.raises(UserError, match="not part of this program"):
        construction.build(call("tests_of_others.path:Evil"), trusted=("tests",))


def test_library_constructor_cannot_be_smuggled_in_as_an_argument():
    with pytest.raises(UserError, match="uses 'os:system', which is not part of this program"):
        construction.build(call(SCHEDULE, gamma_0=call("os:system", command="touch /tmp/x")))


def test_nothing_is_imported_for_a_refused_document():
    program = textwrap.dedent("""
        import sys
        from diffusion_ode.configs import allowed, construction
        from diffusion_ode.errors import UserError
        try:
            construction.build({"call": "antigravity:Flight", "arguments": {}})
        except UserError:
            sys.exit(3 if "antigravity" in sys.modules or "jax" in sys.modules else 0)
        sys.exit(4)
    """)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (call(SCHEDULE, gama_0=1.0), "did you mean gamma_0"),
        (call("diffusion_ode.diffusion.schedule:LinearShedule"), "did you mean LinearSchedule"),
        (call("diffusion_ode.diffusion.gone:Thing"), "use the version of the program that made it"),
        (call("diffusion_ode.diffusion.model:Model"), "lacks its field 'path'"),
        (call(SCHEDULE, gamma_0=6.0), "gamma_0 = 6.0 is not below"),
        ({"call": SCHEDULE}, "neither a literal nor"),
        ({"call": SCHEDULE, "arguments": {}, "more": 1}, "neither a literal nor"),
        ({"call": [], "arguments": {}}, "neither a literal nor"),
        ({"tuple": 3}, "neither a literal nor"),
        ({}, "neither a literal nor"),
        (b"bytes", "neither a literal nor"),
    ],
)
def test_damaged_document_is_refused_in_a_sentence(document, message):
    with pytest.raises(UserError, match=message):
        construction.build(document)


def test_too_deep_and_too_large_documents_are_refused():
    deep = 1
    for _ in range(100_000):
        deep = {"tuple": [deep]}
    with pytest.raises(UserError, match="nested"):
        construction.build(deep)
    with pytest.raises(UserError, match="entries"):
        construction.build([0] * (construction.MAX_NODES + 1))


def test_file_that_is_no_document_is_refused(tmp_path):
    file = tmp_path / "config.json"
    with pytest.raises(UserError, match="Cannot read"):
        documents.read(file)
    for content in ("{", "[" * 200_000, "\xff", "null", "[]", "3"):
        file.write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=r"config\.json is no JSON object"):
            documents.read(file)
    file.write_text(" " * (documents.MAX_BYTES + 1))
    with pytest.raises(UserError, match="larger"):
        documents.read(file)


def test_document_is_written_whole_and_reads_back_equal(tmp_path):
    document = call(SCHEDULE, gamma_0=-13.3, gamma_1=5.0)
    documents.write(document, tmp_path / "config.json")
    assert documents.read(tmp_path / "config.json") == document
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert json.loads(documents.text(document)) == document


def test_difference_names_the_fields_that_changed():
    before = call("m:Root", schedule=call(SCHEDULE, gamma_0=-13.3), size={"tuple": [8, 8]}, old=1)
    after = call("m:Root", schedule=call(SCHEDULE, gamma_0=-7.88), size={"tuple": [8]}, new=None)
    assert list(map(str, documents.difference(before, after))) == [
        "schedule.gamma_0: -13.3 → -7.88",
        "size: (8, 8) → (8,)",
        "old: 1 → (absent)",
        "new: (absent) → None",
    ]
    assert documents.difference(before, before) == []
    assert documents.difference(True, 1)  # equal in Python, not in a config


def test_render_shows_what_set_takes():
    document = call("a.b:Piece", x={"tuple": [1]}, f={"name": "flax.linen:gelu"}, text="a")
    assert documents.render(document) == "Piece(x=(1,), f=gelu, text='a')"
