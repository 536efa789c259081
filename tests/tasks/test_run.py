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
        "python launch/run.py --exp=a --set 'm.path=p()' --set x=1 --workdir=w --task=sample"
    )


def test_next_command_sets_a_field_once_and_none_of_other_tasks(tmp_path):
    settings = ("evaluate.name=tight", "sample.seed=1", "train.seed=2", "x=1", "x=2")
    command = ("launch/run.py", "--exp=a", *(f"--set={setting}" for setting in settings))
    this = run(tmp_path, command=command)
    asked = ("--task=sample", "--set=sample.seed=3")
    assert this.next_command(*asked) == (
        "python launch/run.py --exp=a --set x=2 --task=sample --set sample.seed=3"
    )
    assert this.next_command().endswith(
        "--set evaluate.name=tight --set sample.seed=1 --set train.seed=2 --set x=2"
    )


def test_settings_of_a_task_that_are_not_the_trainings_are_said(tmp_path):
    def tree(seed):
        evaluate = {"call": "m:Evaluate", "arguments": {"seed": seed}}
        return {"call": "m:Root", "arguments": {"evaluate": evaluate, "x": seed}}

    run(tmp_path, document=tree(1)).save_config()
    said = []
    run(tmp_path, document=tree(2)).say_changes("evaluate", said.append)
    assert said == [f"unlike {tmp_path / 'config.json'}: evaluate.seed: 1 → 2"]


def test_a_run_that_begins_makes_its_workdir(tmp_path):
    run(tmp_path / "new").begin(fingerprint="f")
    assert (tmp_path / "new").is_dir()
