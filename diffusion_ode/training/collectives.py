"""What a compiled program sends between its devices, read off its text."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# A TPU's reduce-scatter is a fused computation of this name, with an all-reduce in it.
_SCATTERING = "all-reduce-scatter"
# A TPU's asynchronous collective is written down again in every fusion that it goes on beside.
_GOING_ON = re.compile(r"^async_collective_fusion|AsyncCollective(Start|Done)")
_STARTED = re.compile(r"custom-call\(%?([\w.\-]+)\).*AsyncCollectiveStart")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|[\s)}])([a-z][a-z0-9\-]*)\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(.*?\))? \{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


@dataclass(frozen=True)
class Collective:
    """One kind of communication, as often as one run of the program does it.

    Attributes:
      kind: in XLA's words, "all-reduce" and so on.
      bytes: of the whole arrays on one device, each time: what is reduced, the result of a
        gather, what is there before a scatter. A ring sends (n − 1)/n of them from every
        device, for an all-reduce twice as much.
      count: how often, the rounds of loops included.
      devices: n, how many take part together.
    """

    kind: str
    bytes: int
    count: int
    devices: int

    @property
    def total_bytes(self) -> int:
        return self.bytes * self.count

    @property
    def sent_bytes(self) -> float:
        """What each device sends, around a ring."""
        if self.kind in ("collective-permute", "collective-broadcast"):
            return self.total_bytes
        share = (self.devices - 1) / self.devices
        return self.total_bytes * share * (2 if self.kind == "all-reduce" else 1)


def collectives(compiled_text: str) -> list[Collective]:
    """The collectives of `compiled.as_text()`, the largest first; equal ones are counted together.

    Arrays that XLA has combined into one operation count as one. A loop whose number of rounds is
    not known counts as a single round; what stays on one device does not count.
    """
    computations, entry = _computations(compiled_text)
    devices = _device_count(compiled_text)
    found: Counter[tuple[str, int, int]] = Counter()

    def visit(name: str, times: int) -> None:
        instructions = computations.get(name, {})
        text = "\n".join((name, *instructions.values()))
        started = _STARTED.findall(text) if _GOING_ON.search(text) else None
        for own, line in instructions.items():
            opcode = _opcode(line)
            kind, phase = _kind_and_phase(opcode)
            if kind is None:
                trips = _TRIPS.search(line) if opcode == "while" else None
                # The later halves name again what async-start has called.
                for called in () if opcode in ("async-update", "async-done") else _called(line):
                    visit(called, times * (int(trips[1]) if trips else 1))
                continue
            if phase == "-start":
                continue  # its result holds its input too, that of -done does not
            if started is not None and own not in started:
                continue
            group = _group_size(line, devices)
            size = _bytes_of_result(line, opcode) * (group if kind == "reduce-scatter" else 1)
            if name.startswith(_SCATTERING) and kind == "all-reduce":
                kind = "reduce-scatter"
            if group > 1 and size:
                found[(kind, size, group)] += times

    visit(entry, 1)
    rows = [Collective(kind, size, n, group) for (kind, size, group), n in found.items()]
    return sorted(rows, key=lambda row: (-row.total_bytes, row.kind))


def total_bytes(rows: Sequence[Collective], kind: str) -> int:
    """The bytes of all collectives of one kind."""
    return sum(row.total_bytes for row in rows if row.kind == kind)


def _computations(text: str) -> tuple[dict[str, dict[str, str]], str]:
    """Each computation's instructions by name, and the name of the one that is run."""
    found: dict[str, dict[str, str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = found.setdefault(header[2], {})
            if header[1]:
                entry = header[2]
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _INSTRUCTION.match(line)):
            current[instruction[1]] = instruction[2]
    return found, entry


def _opcode(line: str) -> str:
    """Of `f32[8]{0} all-reduce(%x), …`: the first word before a parenthesis after the type."""
    found = _OPCODE.search(_without_layouts(line))
    return found[1] if found else ""


def _without_layouts(line: str) -> str:
    """Layouts such as {1,0:T(8,128)} hold parentheses of their own."""
    return re.sub(r"\{[^{}]*\}", "", line.split(", metadata=")[0])


def _kind_and_phase(opcode: str) -> tuple[str | None, str]:
    for phase in ("-start", "-done"):
        if opcode.endswith(phase):
            stem = opcode.removesuffix(phase)
            return (stem, phase) if stem in _KINDS else (None, "")
    return (opcode, "") if opcode in _KINDS else (None, "")


def _bytes_of_result(line: str, opcode: str) -> int:
    result = _without_layouts(line).split(f"{opcode}(")[0]
    return sum(
        _bits(element) * math.prod(int(n) for n in shape.split(",") if n) // 8
        for element, shape in _ARRAY.findall(result)
    )


def _bits(element: str) -> int:
    """Of one element: 8 of pred, 32 of f32, 16 of bf16, 8 of f8e4m3fn."""
    if element == "pred":
        return 8
    return int(re.findall(r"\d+", element)[0])


def _called(line: str) -> Iterator[str]:
    yield from _CALLED.findall(line)
    for branches in _BRANCHES.findall(line):
        yield from (name.strip().lstrip("%") for name in branches.split(","))


def _device_count(text: str) -> int:
    header = text.split("\n", 1)[0]
    counts = [re.search(rf"\b{name}=(\d+)", header) for name in ("num_partitions", "replica_count")]
    return math.prod(int(found[1]) for found in counts if found)


def _group_size(line: str, devices: int) -> int:
    """How many devices each group has, in any of the forms that XLA prints."""
    if lists := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return lists[1].count(",") + 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(iota[1])
    if mesh := _MESH_GROUPS.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    return devices
