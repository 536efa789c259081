"""What the file system cannot call a file meets one sentence, wherever a user names one."""

import pytest

from data import prepare
from data.location import resolve_data_dir
from data.sources.array_file import ArrayFile
from data.sources.image_folder import ImageFolder
from diffusion_ode.errors import UserError
from diffusion_ode.home import expanded
from diffusion_ode.inference.diffusion_model import DiffusionModel
from diffusion_ode.tools import export, import_reference
from diffusion_ode.training.origins import parse_origin
from launch import report
from launch.run import main

LONG = "a" * 300
IMPOSSIBLE = {
    "long": LONG,
    "long within": f"not_there/{LONG}/x",
    "long as a whole": "a/" * 2020,
    "with a NUL": "a\0b",
    "half a letter": "\ud800",
    "going in a circle": "circle",
}
READERS = {
    "array_file": lambda path: ArrayFile(path).shape,
    "test_path": lambda path: ArrayFile(__file__, path).load(),
    "image_folder": lambda path: ImageFolder(path, resize=8).shape,
    "address": lambda path: ImageFolder(f"file:///{path}").load(),
    "--from": lambda path: prepare.prepare("cifar10", path),
    "--data_dir": resolve_data_dir,
    "--init_from": parse_origin,
    "--init_from, a step": lambda path: parse_origin(f"{path}@5"),
    "--init_from, a file": lambda path: parse_origin(f"reference:{path}"),
    "load": DiffusionModel.load,
}


@pytest.fixture(autouse=True)
def circle(tmp_path, monkeypatch):
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_path_is_refused_where_it_is_first_looked_at(path):
    with pytest.raises(UserError, match=r"is no path of this machine \([^)]+\): ") as refusal:
        expanded(path)
    assert len(str(refusal.value)) < 350


def test_a_name_that_no_home_has_is_refused():
    with pytest.raises(UserError, match="no such home directory"):
        expanded("~a\0b/x")


@pytest.mark.parametrize("path", ["x.png", "not/there", "/", ".", "a" * 255])
def test_what_may_be_there_passes(path):
    assert str(expanded(path)) == path


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_every_reader_looks_there(read):
    with pytest.raises(UserError, match="is no path of this machine"):
        read(LONG)


@pytest.mark.parametrize("source", [ArrayFile(""), ImageFolder("", resize=8)])
def test_a_source_of_no_path_is_not_the_folder_where_one_stands(source):
    with pytest.raises(UserError, match="A path is empty: give the name of a folder or file"):
        source.load()


COMMANDS = {
    "describe": (main, ["--describe", "--set", f"data.source=array_file(path='{LONG}')"]),
    "report": (report.main, [LONG]),
    "baseline": (report.main, [".", f"--baseline={LONG}"]),
    "export": (export.main, [LONG, "out"]),
    "export, into": (export.main, [".", LONG]),
    "import": (import_reference.main, [LONG, "out"]),
    "import, into": (import_reference.main, [".", LONG]),
    "decompress": (main, ["--task=decompress", f"--set=decompress.file={LONG}"]),
    "fid": (main, ["--task=fid", f"--set=fid.features={LONG}", f"--set=fid.reference={LONG}"]),
}


@pytest.mark.parametrize(("command", "flags"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_refuses_it_in_one_sentence(command, flags, capsys):
    if command is main:
        flags = ["--exp=digits_vp", "--workdir=run", *flags]
    assert command(flags) == 2
    said = capsys.readouterr().err.strip()
    assert "is no path of this machine (File name too long)" in said
    assert len(said.splitlines()) == 1
