"""Remote storage, with fsspec's `memory://` in place of a bucket."""

import os
import shutil
from pathlib import Path

import fsspec
import jax
import numpy as np
import pytest
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.registry import known_implementations
from fsspec.spec import AbstractFileSystem
from PIL import Image

from data.prepare import main as prepare
from data.sources.array_file import ArrayFile
from data.sources.image_folder import ImageFolder
from diffusion_ode import DiffusionModel, remote
from diffusion_ode.configs import construction, documents
from diffusion_ode.errors import UserError
from diffusion_ode.home import expanded, url_of
from diffusion_ode.remote import fetched
from diffusion_ode.tools.export import export
from diffusion_ode.tools.export import main as export_main
from diffusion_ode.tools.import_reference import main as import_main
from diffusion_ode.tools.mirror import main as mirror
from diffusion_ode.training.origins import parse_origin
from launch.run import main as launch
from launch.sweep import main as sweep
from tests.published_checkpoint import imported_run

RUN = "memory://bucket/runs/one"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    made = tmp_path_factory.mktemp("runs") / "one"
    return imported_run(tmp_path_factory.mktemp("published"), made)


@pytest.fixture(autouse=True)
def bucket(tmp_path, monkeypatch):
    """An empty one, and a cache of its own."""
    monkeypatch.setenv("DIFFUSION_ODE_DATA", str(tmp_path / "cache"))
    storage = fsspec.filesystem("memory")
    storage.store.clear()
    yield storage
    storage.store.clear()


def fetched_files(tmp_path):
    return sorted(
        file.relative_to(tmp_path / "cache/fetched").as_posix().partition("/")[2]
        for file in (tmp_path / "cache/fetched").rglob("*")
        if file.is_file()
    )


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_run_goes_there_and_is_loaded_from_there(workdir, tmp_path, capsys):
    shutil.copytree(workdir, tmp_path / "run")
    shutil.copytree(tmp_path / "run/checkpoints/600", tmp_path / "run/checkpoints/500")
    (tmp_path / "run/.lock").write_text("not for others")
    assert mirror([str(tmp_path / "run"), RUN]) == 0
    assert "files of" in capsys.readouterr().out
    model = DiffusionModel.load(RUN)
    assert_equal(model.parameters, DiffusionModel.load(workdir).parameters)
    assert model.facts["step"] == 600
    names = fetched_files(tmp_path)
    assert "one/config.json" in names
    assert not any(".lock" in name or "checkpoints/500/" in name for name in names)
    assert DiffusionModel.load(RUN, 500).facts["step"] == 500
    with pytest.raises(UserError, match=r"no whole checkpoint 7: choose one of \[500, 600\]"):
        DiffusionModel.load(RUN, 7)


def test_a_training_begins_with_a_run_there_or_an_export_there(workdir, tmp_path):
    model = construction.build(documents.read(workdir / "config.json")["arguments"]["model"])
    wanted = {"ema": jax.eval_shape(model.init, jax.random.key(0))}
    expected = DiffusionModel.load(workdir).parameters
    export(workdir, tmp_path / "out")
    assert mirror([str(workdir), RUN]) == 0
    assert mirror([str(tmp_path / "out"), "memory://bucket/exported"]) == 0
    for origin in (RUN, f"{RUN}@600", "memory://bucket/exported"):
        assert_equal(parse_origin(origin).restore(model, wanted).state["ema"], expected)


def test_it_comes_back_whole_and_what_half_came_is_none(workdir, tmp_path, bucket, capsys):
    assert mirror([str(workdir), RUN]) == 0
    assert mirror([RUN, str(tmp_path / "back")]) == 0

    def content(folder):
        return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    assert content(tmp_path / "back") == content(workdir)
    assert mirror([RUN, str(tmp_path / "back")]) == 2
    assert "exists already" in capsys.readouterr().err
    bucket.rm("/bucket/runs/one/checkpoints/600/facts/metadata")
    with pytest.raises(UserError, match="no whole checkpoint 600"):
        DiffusionModel.load(RUN, 600)


def test_a_second_mirroring_sends_no_checkpoint_again(workdir, tmp_path, bucket, monkeypatch):
    shutil.copytree(workdir, tmp_path / "run")
    assert mirror([str(tmp_path / "run"), RUN]) == 0
    sent, put = [], type(bucket).put_file
    monkeypatch.setattr(
        type(bucket), "put_file", lambda self, a, b: (sent.append(a), put(self, a, b))
    )
    (tmp_path / "run/metrics.jsonl").write_text("{}\n")
    shutil.copytree(tmp_path / "run/checkpoints/600", tmp_path / "run/checkpoints/700")
    assert mirror([str(tmp_path / "run"), RUN]) == 0
    names = [Path(file).relative_to(tmp_path / "run").as_posix() for file in sent]
    assert {"config.json", "metrics.jsonl", "checkpoints/700/config/metadata"} <= set(names)
    assert not any(name.startswith("checkpoints/600/") for name in names)
    assert names[-1] == "checkpoints/700/facts/metadata"


def test_another_checkpoint_of_the_same_step_replaces_the_one_there(workdir, tmp_path, bucket):
    shutil.copytree(workdir, tmp_path / "run")
    assert mirror([str(tmp_path / "run"), RUN]) == 0
    facts = tmp_path / "run/checkpoints/600/facts/metadata"
    facts.write_bytes(facts.read_bytes().swapcase())  # as long as it was
    assert mirror([str(tmp_path / "run"), RUN]) == 0
    assert bucket.cat_file("/bucket/runs/one/checkpoints/600/facts/metadata") == facts.read_bytes()


def test_what_vanishes_while_it_is_copied_is_left_out(workdir, tmp_path, bucket, monkeypatch):
    shutil.copytree(workdir, tmp_path / "run")
    put = type(bucket).put_file

    def put_file(self, here, there):
        if "checkpoints/600" in here:
            shutil.rmtree(tmp_path / "run/checkpoints/600", ignore_errors=True)
        put(self, here, there)

    monkeypatch.setattr(type(bucket), "put_file", put_file)
    assert mirror([str(tmp_path / "run"), RUN]) == 0
    with pytest.raises(UserError, match="no whole checkpoint 600"):
        DiffusionModel.load(RUN, 600)
    assert bucket.exists("/bucket/runs/one/config.json")


def test_a_copy_that_fails_leaves_no_half_folder(workdir, tmp_path, bucket, monkeypatch, capsys):
    assert mirror([str(workdir), RUN]) == 0
    monkeypatch.setattr(type(bucket), "get", lambda *_: 1 / 0)
    assert mirror([RUN, str(tmp_path / "back")]) == 2
    assert "division by zero" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_fetched_is_fetched_again_only_if_it_changed(bucket, tmp_path, capsys):
    bucket.pipe("/bucket/a/x.txt", b"first")
    assert (fetched("memory://bucket/a") / "x.txt").read_bytes() == b"first"
    assert "fetching a file of memory://bucket/a, 0.0 MB" in capsys.readouterr().err
    assert (fetched("memory://bucket/a") / "x.txt").read_bytes() == b"first"
    assert capsys.readouterr().err == ""
    bucket.pipe("/bucket/a/x.txt", b"other")
    assert (fetched("memory://bucket/a") / "x.txt").read_bytes() == b"other"
    assert not [f for f in (tmp_path / "cache/fetched").iterdir() if f.name.startswith(".")]


def test_arrays_and_pictures_there_are_the_same_data_as_here(bucket, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    bucket.put_file(str(tmp_path / "images.npz"), "/bucket/images.npz")
    there = ArrayFile("memory://bucket/images.npz")
    assert (there.name, there.shape) == ("images", (4, 4, 3))
    here = ArrayFile((tmp_path / "images.npz").as_uri())
    assert there.load().fingerprint == here.load().fingerprint

    (tmp_path / "pictures/sub").mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"pictures/sub/{number}.png")
    bucket.put(str(tmp_path / "pictures"), "/bucket/pictures", recursive=True)
    there = ImageFolder("memory://bucket/pictures").load(tmp_path / "prepared")
    here = ImageFolder(str(tmp_path / "pictures")).load(tmp_path / "prepared")
    assert there.fingerprint == here.fingerprint
    capsys.readouterr()
    assert prepare(["array_file", "--from", "memory://bucket/images.npz"]) == 0
    assert 'array_file(path="memory://bucket/images.npz")' in capsys.readouterr().out


class Unopenable(AbstractFileSystem):
    """Wants more than an address tells."""

    def __init__(self, key, **options):
        super().__init__(**options)


@pytest.mark.parametrize(
    "command, arguments, says",
    [
        (launch, ["--exp=digits_vp", "--workdir=file:///tmp/x"], "write the path in it alone"),
        (launch, ["--exp=digits_vp", "--workdir=gs://b/run"], "--workdir=gs://b/run is in remote"),
        (launch, ["--exp=digits_vp", "--data_dir=s3://b/data"], "--data_dir=s3://b/data is in"),
        (
            launch,
            ["--exp=digits_vp", "--init_from=nowhere://b/run"],
            "no address that fsspec knows",
        ),
        (launch, ["--exp=digits_vp", "--init_from=memory://b/run"], "nothing at memory://b/run"),
        (sweep, ["--exp=digits_vp", "--grid=train.seed=0,1", "--workdir=gs://b/x"], "gs://b/x is"),
        (export_main, ["gs://b/run", "out"], "diffusion_ode.tools.mirror gs://b/run"),
        (export_main, ["run", "gs://b/out"], "OUT gs://b/out is in remote"),
        (import_main, ["ckpt-1.flax", "gs://b/run"], "WORKDIR gs://b/run is in remote"),
        (mirror, ["gs://b/run", "s3://b/run"], "Both of gs://b/run and s3://b/run"),
        (launch, ["--exp=digits_vp", "--init_from=zip://a::/etc/passwd"], "several addresses"),
        (prepare, ["cifar10", "--from", "zip://a::/etc/passwd"], "several addresses"),
        (prepare, ["image_folder", "--from", "reference://x", "--size=8"], "in no remote storage"),
        (mirror, ["tar://a::/etc/passwd", "here"], "several addresses"),
        (mirror, ["dir://x", "here"], "in no remote storage, as dir: names none"),
        (mirror, ["unopenable://x", "here"], "Cannot open unopenable://x (TypeError"),
        (mirror, ["memory://b/run", "."], ". exists already: give another folder"),
        (export_main, ["run", "."], ". exists already: give another OUT"),
        (mirror, ["run", "here"], "Neither of run and here"),
        (mirror, ["run", "memory://b/x"], "run is no folder"),
    ],
)
def test_what_cannot_be_there_is_one_sentence_before_anything_is_made(
    command, arguments, says, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    fsspec.register_implementation("unopenable", Unopenable, clobber=True)
    assert command(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", sorted(known_implementations))
def test_what_is_within_something_else_or_of_this_machine_is_not_even_opened(protocol, monkeypatch):
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError:
        kind = object
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: pytest.fail(f"{url} is opened"))
    with pytest.raises(UserError, match="several addresses"):
        remote._storage(f"{protocol}://a::memory://b")
    if issubclass(kind, AbstractArchiveFileSystem | ChainedFileSystem | DirFileSystem):
        with pytest.raises(UserError, match="in no remote storage"):
            remote._storage(f"{protocol}://a")


def test_an_address_of_the_sixth_version_is_no_chain(monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (url, "x"))
    assert remote._storage("http://[::1]:8000/x") == ("http://[::1]:8000/x", "x")


@pytest.mark.parametrize("raised", [KeyError("org"), TypeError("no fo"), EOFError(), OSError(5)])
def test_whatever_opening_a_storage_raises_is_one_sentence(raised, tmp_path, monkeypatch, capsys):
    def fail(url):
        raise raised

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    (tmp_path / "run").mkdir()
    for ends in (["s3://b/run", f"{tmp_path}/new"], [f"{tmp_path}/run", "s3://b/run"]):
        assert mirror(ends) == 2
        assert "Cannot open s3://b/run" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_a_missing_library_is_told_with_its_command(monkeypatch):
    def missing(url):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match="pip install gcsfs"):
        fetched("gs://bucket/images.npz")


def test_whatever_a_storage_raises_is_one_sentence(bucket, monkeypatch):
    bucket.pipe("/bucket/x.npy", b"")

    def fail(*_, **__):
        raise RuntimeError("token expired\nat line 3")

    monkeypatch.setattr(type(bucket), "get", fail)
    with pytest.raises(UserError, match=r"token expired.*your credentials") as refusal:
        fetched("memory://bucket/x.npy")
    assert "\n" not in str(refusal.value)


def test_a_listing_that_leads_out_of_the_folder_is_refused(bucket, tmp_path, monkeypatch):
    bucket.pipe("/bucket/a/x", b"1")
    inside = bucket.info("/bucket/a/x")
    monkeypatch.setattr(
        type(bucket), "find", lambda *_, **__: {"/bucket/a/../../../escaped": inside}
    )
    with pytest.raises(UserError, match="leads out of it"):
        fetched("memory://bucket/a")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "path, url",
    [
        ("gs://b/x", "gs://b/x"),
        (Path("gs://b/x"), "gs://b/x"),  # which is gs:/b/x
        ("s3://b", "s3://b"),
        ("https://host/x.npz", "https://host/x.npz"),
        ("gs:///b/x", "gs:///b/x"),
        (Path("file:///tmp/x"), "file:///tmp/x"),
        *[(path, None) for path in ("runs/x", "/runs/x", "a:b", "C:/x", "./gs:/x", "reference:x")],
    ],
)
def test_addresses_are_told_from_paths(path, url):
    assert url_of(path) == url


def test_reading_in_place_names_the_copying_command():
    with pytest.raises(UserError, match=r"tools\.mirror gs://b/x FOLDER"):
        expanded("gs://b/x")
    assert remote.CACHE_VARIABLE in os.environ
