"""Files that are whole or absent, and files that one process at a time holds."""

import multiprocessing

import pytest

from diffusion_ode.workdir.files import Held, held, replace_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replace_atomically(path) as file:
        file.write("half")
        raise KeyError
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.txt", "old")]


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    with replace_atomically(tmp_path / "new" / "a.txt") as file:
        file.write("θ")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "θ".encode()


def test_who_does_not_wait_is_told_what_the_holder_wrote(tmp_path):
    path = tmp_path / "a"
    with held(path):
        path.write_text("me")
        with pytest.raises(Held) as refusal, held(path, wait=False):
            pass
        assert refusal.value.content == b"me"


def _count_up(path):
    for _ in range(50):
        with held(path):
            number = int(path.read_text() or "0")
            with replace_atomically(path) as file:
                file.write(str(number + 1))


def test_a_held_file_may_be_replaced_and_no_change_is_lost(tmp_path):
    path = tmp_path / "number"
    processes = multiprocessing.get_context("spawn")
    counting = [processes.Process(target=_count_up, args=(path,)) for _ in range(2)]
    for process in counting:
        process.start()
    for process in counting:
        process.join()
    assert path.read_text() == "100"
