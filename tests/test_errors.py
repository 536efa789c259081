"""What a sentence shows of a value has an end."""

import sys

import pytest

from data.errors import damaged
from diffusion_ode.errors import MOST_SAID, MOST_SHOWN, UserError, in_words, shortened
from launch import report, run


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, "/a" * 3000, "9" * 4000, f"'{'a b ' * 2000}'", f'"{"it is " * 900}"', "\n" * 0],
    ids=["word", "path", "number", "quoted", "in other quotes", "nothing"],
)
def test_a_long_value_is_cut_in_its_middle(value):
    for error in (UserError(f"x = {value} is wrong: y."), damaged(value, "is wrong", "y")):
        said = str(error)
        assert len(said) < MOST_SHOWN + 60
        assert ("…" in said) == (len(value) > MOST_SHOWN)
    assert shortened(f"x = {value} is wrong: y.").endswith(" is wrong: y.")


WORDS = "a b " * 2000


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (run, ["--exp=digits_vp", f"--checkpoint={WORDS}", "--task=evaluate"]),
        (run, ["--exp=digits_vp", f"--foo{WORDS}=3"]),
        (run, ["--exp=digits_vp", f"--describe={WORDS}"]),
        (
            run,
            ["--exp", "digits_vp", "--num_processes=2", "--process_id=0", "--coordinator", WORDS],
        ),
        (run, ["--exp=digits_vp", f"--num_processes={WORDS}"]),
        (run, [WORDS]),
        (report, [f"/nowhere/{WORDS[:240]}"]),
        (report, ["runs", f"--format={WORDS}"]),
    ],
    ids=["step", "flag", "description", "address", "number", "word", "workdir", "format"],
)
def test_a_flag_of_many_words_is_cut_too(program, arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    assert program.main(arguments) == 2
    said = capsys.readouterr().err
    assert len(said) < 3 * MOST_SHOWN and "…" in said and said.count("\n") == 1


def test_a_sentence_of_many_values_has_an_end():
    said = str(UserError(f"The file has {WORDS}: evaluate anew."))
    assert len(said) < MOST_SAID + 1 and said.endswith(": evaluate anew.")


def test_what_is_short_and_a_sentence_of_many_words_stay_as_they_are():
    sentence = "one 'quoted value', a \"second\" and it's `a third`: give one of them. " * 12
    assert shortened(sentence) == sentence
    sentence = f"This run's settings {'are not as they were and ' * 20} the other run's: keep them."
    assert shortened(sentence) == sentence


def test_codes_that_move_a_cursor_are_not_sent_to_a_terminal():
    assert str(UserError("the name \x1b[2J\x07 is wrong")) == r"the name \x1b[2J\x07 is wrong"


def test_a_name_of_two_lines_leaves_a_sentence_one():
    for error in (UserError("the name \n is wrong"), damaged("file", "has \n", "y")):
        assert "\n" not in str(error) and r"\n" in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "there is not memory enough for it"),
        (FileNotFoundError(2, "No such file or directory", "a"), "No such file or directory"),
        (KeyError("x"), "KeyError: 'x'"),
        (RecursionError(), "RecursionError"),
        (ValueError("first\nsecond"), "first"),
    ],
    ids=repr,
)
def test_an_exception_is_said_on_one_line(error, words):
    assert in_words(error) == words
