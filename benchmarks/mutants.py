"""Whether the tests notice a wrong line: one-line mutants against the tests of their room.

    python -m benchmarks.mutants build/mutants [--seed=0] [--share=1] [--again]

Cosmic Ray changes one place of a module in a copy of the tree that is thrown away: another
operator, a number by 1, a condition turned round, an argument taken for 0. Then the tests of its
room run until one fails: in the files whose tests run the line, those first that run it, the
quickest before the others. A mutant that takes three times their processor time, and a minute, is
noticed too.

The folder keeps which tests run which lines, and a line for each mutant, so that a second call goes
on where the first was stopped; `--again` tries the survivors once more, after tests were added. A
survivor that docs/reliability.md calls equivalent is counted as that.

Left out is what the tests of a room cannot notice by nature: annotations, decorators, the text of
messages and what is raised with it, `__repr__`.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

import coverage
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator
from cosmic_ray.work_item import MutationSpec

from benchmarks.measuring import machine, markdown_table, some_of

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/reliability.md"


_EQUIVALENT = "equivalent"  # how a reason begins there
_SECONDS_FILE = "SECONDS_OF_TESTS"  # in the environment, where this file is pytest's plugin
_QUIETLY = ("-q", "-n", "0", "--no-header", "--tb=no")


class Room(NamedTuple):
    """Files of the program, the tests that are to notice, and how many mutants are drawn."""

    files: str
    tests: tuple[str, ...]
    mutants: int


ROOMS = {
    "process": Room("diffusion_ode/diffusion/*.py", ("tests/diffusion",), 44),
    "objectives": Room("diffusion_ode/objectives/*.py", ("tests/objectives",), 20),
    "inference": Room("diffusion_ode/inference/*.py", ("tests/inference",), 24),
    "solvers": Room("diffusion_ode/solvers/*.py", ("tests/solvers",), 40),
    "training step": Room(
        "diffusion_ode/training/step.py",
        (
            "tests/training/test_step.py",
            "tests/training/test_steps_per_call.py",
            "tests/training/test_traced_numbers.py",
        ),
        12,
    ),
    "data pipeline": Room("data/pipeline.py", ("tests/data/test_pipeline.py",), 10),
}


_OBJECT = re.compile(
    r"(self|jax|jnp|np)\b.*|.*\b(model|path|parameters|objective|state|schedule|controller|solver"
    r"|loss|gather|images|network|dtype|sharding|images\.\w+)"
)


class NoughtForArgument(Operator):
    """f(x, y.z) → f(0 * x, y.z): a quantity is not made use of, a key stays the same."""

    def mutation_positions(self, node):
        if node.type not in ("name", "atom_expr") or not node.parent:
            return
        brackets = node.parent if node.parent.type == "trailer" else node.parent.parent
        if brackets is None or brackets.type != "trailer" or brackets.children[0] != "(":
            return
        called, code = brackets.get_previous_sibling().get_code(), node.get_code().strip()
        is_argument = node.parent.type in ("trailer", "arglist")
        # 0 times an object is noticed by whatever runs it; of some arrays only the form is asked.
        told = called.endswith(("_like", "isinstance", "len")) or _OBJECT.fullmatch(code)
        if is_argument and not told and re.fullmatch(r"[a-z_][\w.]*", code):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        leaf = node.get_first_leaf()
        leaf.value = f"0 * {leaf.value}"
        return node

    @classmethod
    def examples(cls):
        return ()


OPERATOR_PROVIDERS["here"] = {"NoughtForArgument": NoughtForArgument}
# Of a kind's replacements the likeliest slips: `>>` for `+` is noticed by whatever runs it.
_SLIPS = {
    "ReplaceBinaryOperator": "Add_Sub Sub_Add Mul_Div Div_Mul Pow_Mul FloorDiv_Mul Mod_FloorDiv"
    " BitAnd_BitOr BitOr_BitAnd LShift_RShift",
    "ReplaceComparisonOperator": "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_Gt Gt_Lt"
    " Is_IsNot IsNot_Is",
    "ReplaceUnaryOperator": "Delete_USub Delete_Not",
}
OPERATORS = [
    *(f"core/{kind}_{which}" for kind, those in _SLIPS.items() for which in those.split()),
    *("core/AddNot", "core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue"),
    *("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/NumberReplacer"),
    *("core/ZeroIterationForLoop", "core/ExceptionReplacer", "here/NoughtForArgument"),
]


class Mutant(NamedTuple):
    """A changed place, the lines of its statement, and its first line before and after."""

    spec: MutationSpec
    lines: range
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What says in a file that it is this one."""
        return str(self.spec.module_path), self.before, self.after


def drawn(room: Room, share: float, chance: random.Random) -> list[Mutant]:
    """Of the mutants of a room in this folder a sample, those left out that no test can notice."""
    places = []
    for path in sorted(Path().glob(room.files)):
        tree = get_ast(path.read_text())
        for name in OPERATORS:
            operator = get_operator(name)()
            found = [
                (node, at) for node in ast_nodes(tree) for at in operator.mutation_positions(node)
            ]
            for occurrence, (node, (start, end)) in enumerate(found):
                if not _is_left_out(node):
                    spec = MutationSpec(path, name, occurrence, start, end)
                    places.append((spec, _lines(node)))
    chance.shuffle(places)
    sample: dict[tuple, Mutant] = {}
    for spec, lines in places:
        before = spec.module_path.read_text()
        operator = get_operator(spec.operator_name)()
        after = mutate_code(before, operator, spec.occurrence) or before
        pairs = zip(before.splitlines(), after.splitlines(), strict=False)
        changed = [(old.strip(), new.strip()) for old, new in pairs if old != new]
        if changed and _compiles(after):
            mutant = Mutant(spec, lines, *changed[0])
            sample.setdefault(mutant.key, mutant)
        if len(sample) >= share * room.mutants:
            break
    return list(sample.values())


def _lines(node) -> range:
    statement = node.search_ancestor("simple_stmt") or node
    last = statement.end_pos[0] if statement is not node else node.start_pos[0] + 1
    return range(statement.start_pos[0], last)


def _is_left_out(node) -> bool:
    while node.parent is not None:
        before, parent = node.get_previous_sibling(), node.parent
        if parent.type in ("fstring", "raise_stmt", "decorator"):
            return True
        if before == "->" or (before == ":" and parent.type in ("annassign", "tfpdef")):
            return True
        if parent.type == "funcdef" and parent.name.value == "__repr__":
            return True
        node = parent
    return False


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class Measured(NamedTuple):
    """Seconds of each test, with what it is first to prepare; by file and line its tests."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]


class Trials:
    """A copy of the tree, in which the tests run.

    Args:
      copy: its folder, empty as yet.
      results: where what was found is kept.
    """

    def __init__(self, copy: Path, results: Path):
        self.copy, self.results = copy, results
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in names.split("\0"):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        self.output = copy / "output"
        os.chdir(copy)
        sys.path[:] = [str(copy) if path == str(ROOT) else path for path in sys.path]
        importlib.import_module("tests.conftest")
        for library in ("flax.linen", "optax", "orbax.checkpoint", "scipy.stats", "hypothesis"):
            importlib.import_module(library)

    def measured(self, room: Room) -> Measured:
        """Of the room's tests; those of a file are known while it and the room's files stay."""
        seconds: dict[str, float] = {}
        lines: dict[str, dict[str, list[str]]] = {}
        for path in map(Path, room.tests):
            for tests in sorted(path.rglob("test_*.py")) if path.is_dir() else [path]:
                files = [tests, *sorted(Path().glob(room.files))]
                digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
                kept = self.results / f"{tests.stem}-{digest[:16]}.json"
                if not kept.exists():
                    kept.write_text(json.dumps(self._measured(tests, room.files)))
                found = Measured(*json.loads(kept.read_text()))
                seconds |= found.seconds
                for file, by_line in found.lines.items():
                    for line, names in by_line.items():
                        lines.setdefault(file, {}).setdefault(line, []).extend(names)
        return Measured(seconds, lines)

    def _measured(self, tests: Path, files: str) -> Measured:
        print(f"Which of {tests} run which lines", flush=True)
        data, seconds = self.copy / ".coverage", self.copy / "seconds.json"
        command = ["coverage", "run", f"--include={files}", f"--data-file={data}", "-m", "pytest"]
        command += [*_QUIETLY, "-p", "benchmarks.mutants", str(tests)]
        environment = {**os.environ, _SECONDS_FILE: str(seconds)}
        subprocess.run([sys.executable, "-m", *command], env=environment, check=True)
        found = coverage.CoverageData(str(data))
        found.read()
        lines = {}
        for file in found.measured_files():
            tests_of = {str(line): names for line, names in found.contexts_by_lineno(file).items()}
            lines[str(Path(file).relative_to(self.copy.resolve()))] = tests_of
        return Measured(json.loads(seconds.read_text()), lines)

    def noticed_by(self, mutant: Mutant, measured: Measured) -> str | None:
        """The test that fails, "time" if they do not come to an end, None if they pass."""
        lines = measured.lines.get(str(mutant.spec.module_path))
        if lines is None or not any(str(line) in lines for line in mutant.lines):
            return None  # not even run
        running = {test for line in mutant.lines for test in lines.get(str(line), ()) if test}
        of_file = {test for tests in lines.values() for test in tests if test}
        # What runs on import concerns every test of the file; constants alone concern all.
        first = running or of_file or set(measured.seconds)
        files = sorted({test.partition("::")[0] for test in first})
        seconds = {
            test: spent
            for test, spent in measured.seconds.items()
            if test.partition("::")[0] in files
        }
        order = sorted(seconds, key=lambda test: (test not in first, seconds[test]))
        limit = 60 + 3 * round(sum(seconds.values()))
        spec, operator = mutant.spec, get_operator(mutant.spec.operator_name)()
        with use_mutation(spec.module_path, operator, spec.occurrence):
            child = os.fork()  # with the libraries imported, which takes longer than many a test
            if child == 0:
                self._run(files, {test: place for place, test in enumerate(order)}, limit)
            _, status = os.waitpid(child, 0)
        if status == 0:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", self.output.read_text(), re.MULTILINE)
        return failed[1] if failed else "time"

    def _run(self, files: list[str], order: dict[str, int], limit: int) -> NoReturn:
        """These tests in this process, which ends with them or after `limit` of its seconds."""
        os.setsid()
        with self.output.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        signal.alarm(30 * limit)  # for what waits
        os._exit(pytest.main([*_QUIETLY, "-x", *files], plugins=[Ordered(order)]))


class Ordered:
    """A plugin of pytest: tests in this order, those that are new before all others."""

    def __init__(self, order: dict[str, int]):
        self.order = order

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.order.get(item.nodeid, -1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """The lines and the seconds of a test, with those of what it is first to prepare."""
    measuring = coverage.Coverage.current()
    if measuring:
        measuring.switch_context(item.nodeid)
    start = time.process_time()
    done = yield
    _SECONDS[item.nodeid] = time.process_time() - start
    return done


def pytest_sessionfinish():
    """Keeps the seconds."""
    Path(os.environ[_SECONDS_FILE]).write_text(json.dumps(_SECONDS))


_SECONDS: dict[str, float] = {}


def main() -> None:
    """Tries what is missing, then prints the table and the survivors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="a folder")
    parser.add_argument(
        "--rooms", type=some_of(ROOMS), default=[*ROOMS], help=f"of {', '.join(ROOMS)}"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the sample")
    parser.add_argument("--again", action="store_true", help="the survivors too")
    flags = parser.parse_args()
    flags.results = flags.results.resolve()
    flags.results.mkdir(parents=True, exist_ok=True)
    file = flags.results / "mutants.jsonl"
    known: dict[tuple, str | None] = {}
    if file.exists():
        known = {tuple(key): by for key, by in map(json.loads, file.read_text().splitlines())}
    rows, survivors, equivalent = [], [], equivalents()
    with tempfile.TemporaryDirectory() as copy:
        trials = Trials(Path(copy), flags.results)
        for name in flags.rooms:
            room = ROOMS[name]
            measured = None
            sample = drawn(room, flags.share, random.Random(f"{flags.seed} {name}"))
            for number, mutant in enumerate(sample, 1):
                is_equivalent = (mutant.key[0], mutant.after) in equivalent
                tried = mutant.key in known and not (flags.again and known[mutant.key] is None)
                if tried or is_equivalent:
                    continue
                start = time.monotonic()
                measured = measured or trials.measured(room)
                by = known[mutant.key] = trials.noticed_by(mutant, measured)
                with file.open("a") as results:
                    print(json.dumps([mutant.key, by]), file=results)
                seconds = time.monotonic() - start
                print(
                    f"{name} {number}/{len(sample)} {seconds:.0f} s: {mutant.key}: {by}", flush=True
                )
            left = [mutant for mutant in sample if known.get(mutant.key) is None]
            same = [mutant for mutant in left if (mutant.key[0], mutant.after) in equivalent]
            survivors += [mutant for mutant in left if mutant not in same]
            rows.append(
                (name, len(sample), len(sample) - len(left), len(same), len(left) - len(same))
            )
    rows.append(("all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))))
    print(f"\n{machine()}; seed {flags.seed}\n")
    print(markdown_table(("room", "mutants", "noticed", "equivalent", "survived"), rows))
    for mutant in survivors:
        print(f"\n{mutant.key[0]}:{mutant.spec.start_pos[0]}\n- {mutant.before}\n+ {mutant.after}")


def equivalents() -> set[tuple[str, str]]:
    """Files and changed lines that the document calls equivalent."""
    rows = [re.split(r" (?<!\\)\| ", line.strip("| \n")) for line in DOCUMENT.open()]
    return {
        (row[0].strip("`"), row[1].strip("`").replace("\\|", "|"))
        for row in rows
        if len(row) == 3 and row[2].startswith(_EQUIVALENT)
    }


if __name__ == "__main__":
    main()
