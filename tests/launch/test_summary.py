"""The last words of a launch."""

from pathlib import Path

from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.task_result import TaskResult
from launch.summary import show_summary


def test_what_is_longer_than_the_screen_goes_on_below_and_no_path_is_broken(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    workdir = Path("/a/long/path" * 10)
    reason = "because it is so, " * 10
    result = TaskResult([("why", reason), ("bpd", "2.1470 ± 0.0121")], [("config", workdir)])
    show_summary(Run(None, {}, "tiny", workdir), [result])
    table, _, written = capsys.readouterr().out.partition("written")
    assert max(map(len, table.splitlines())) <= 80
    assert " ".join(table.split()).count("because it is so,") == 10
    assert f"config  {workdir}\n" in written
