from types import SimpleNamespace

from diffusion_ode.tasks.run import Run


def run(tmp_path, **fields):
    fields = {"document": {"call": "m:Root", "arguments": {"steps": 1}}, **fields}
    return Run(experiment=SimpleNamespace(), name="x", workdir=tmp_path, **fields)


def test_resumed_run_says_how_its_config_differs(tmp_path):
    first = run(tmp_path)
    assert first.config_changes() == []
    first.save_config()
    assert run(tmp_path).config_changes() == []
    changed = run(tmp_path, document={"call": "m:Root", "arguments": {"steps": 2}})
    assert list(map(str, changed.config_changes())) == ["steps: 1 → 2"]


def test_next_command_keeps_what_names_the_run(tmp_path):
    command = (
        *("launch/run.py", "--exp=a", "--set", "m.path=p()", "--set=x=1", "--workdir", "w"),
        *("--task=train", "--init_from=b", "--checkpoint", "3"),
    )
    assert run(tmp_path, command=command).next_command("--task=sample") == (
        "python launch/run.py --exp=a --set 'm.path=p()' --set=x=1 --workdir w --task=sample"
    )


def test_a_run_that_begins_makes_its_workdir(tmp_path):
    run(tmp_path / "new").begin(fingerprint="f")
    assert (tmp_path / "new").is_dir()
