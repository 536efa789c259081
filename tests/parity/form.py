"""What a recording holds: its groups, the names of their cases, and the shapes of their arrays."""

import itertools
import re
from dataclasses import dataclass

from tests.parity.recording import MalformedRecording, Recording

PATHS = ("VP", "SP")
_OBJECTIVE = dict.fromkeys(("t", "loss_recon", "loss_klz", "loss_diff"), ("b",))
_OBJECTIVE |= {"eps": ("b", "image"), "eps_0": ("b", "image")}
_OBJECTIVE |= {"t0": (), "var_0": (), "var_1": ()}


@dataclass(frozen=True)
class Group:
    """A group of the recording.

    Attributes:
      names: a pattern of the names of its cases.
      arrays: the shape of each array: "b" and "k" are any numbers, alike throughout a case, and
        "image" is height, width, channels.
      of_second_order: the arrays that only the cases of second order have.
    """

    names: str
    arrays: dict[str, tuple[str, ...]]
    of_second_order: tuple[tuple[str, tuple[str, ...]], ...] = ()


GROUPS = {
    "network": Group(r"\w+", {"z": ("b", "image"), "gamma": ("b",), "out": ("b", "image")}),
    "objective": Group(
        "(VP|SP)_(velocity|noise)_(uniform|importance)_(first|second)",
        _OBJECTIVE,
        (("probe", ("b", "image")), ("loss_diff2", ("b",))),
    ),
    "drift": Group(
        "(VP|SP)_(velocity|noise)",
        dict.fromkeys(("z", "probe", "drift"), ("b", "image"))
        | {"gamma": ("b",), "hutchinson": ("b",)},
    ),
    "likelihood": Group(
        r"(VP|SP)_(u|v|tn)_K[1-9]\d*",
        {"noise": ("k", "b", "image"), "probe": ("b", "image"), "bpd": ("b",)},
    ),
    "sample": Group("(VP|SP)", {"noise": ("b", "image"), "images": ("b", "image")}),
}


def check_form(recording: Recording) -> None:
    """Refuses unknown names, missing arrays, and shapes that do not belong together.

    Raises:
      MalformedRecording: naming the array.
    """
    images = recording.images
    if images.ndim != 4 or images.dtype.kind not in "iu" or not images.size:
        raise MalformedRecording(
            f"images are {images.dtype} of shape {images.shape}, not whole numbers [b, h, w, c]"
        )
    if not any(recording.cases(name) for name in GROUPS):
        raise MalformedRecording(f"the recording has none of the groups {', '.join(GROUPS)}")
    for name, group in GROUPS.items():
        for case, arrays in recording.cases(name).items():
            if not re.fullmatch(group.names, case):
                raise MalformedRecording(f"{name}/{case} is not named as {group.names!r} says")
            expected = dict(group.arrays)
            if case.endswith("_second"):
                expected |= group.of_second_order
            sizes: dict[str, int] = {"b": len(images)} if name == "objective" else {}
            for array, form in expected.items():
                _check_shape(f"{name}/{case}/{array}", arrays[array], form, images, sizes)
            if name == "likelihood" and sizes["b"] > len(images):
                raise MalformedRecording(
                    f"{name}/{case} judges {sizes['b']} images of {len(images)}"
                )


def _check_shape(name: str, array, form: tuple[str, ...], images, sizes: dict[str, int]) -> None:
    tail = images.shape[1:] if "image" in form else ()
    leading = [part for part in form if part != "image"]
    fits = array.ndim == len(leading) + len(tail) and array.shape[len(leading) :] == tail
    if fits:
        fits = all(
            size > 0 and sizes.setdefault(part, size) == size
            for part, size in zip(leading, array.shape, strict=False)
        )
    if not fits or array.dtype.kind not in "iuf":
        wanted = [str(sizes.get(part, part)) for part in leading] + [str(size) for size in tail]
        raise MalformedRecording(
            f"{name} is {array.dtype} of shape {array.shape}, not numbers [{', '.join(wanted)}]"
        )


def missing(recording: Recording, group: str) -> list[str]:
    """The cases that a group would have if what it has of one path it had of both, and so on."""
    present = recording.cases(group)
    parts = [name.split("_") for name in present]
    if not parts or group == "network":
        return []
    if group == "objective":
        rest = sorted({"_".join(part[1:]) for part in parts})
        wanted = [f"{path}_{tail}" for path in PATHS for tail in rest]
    else:
        columns = [sorted(set(column)) for column in zip(*parts, strict=True)]
        columns[0] = list(PATHS)
        if group == "drift":
            columns[1] = ["velocity", "noise"]
        if group == "likelihood":
            columns[1] = ["u", "v", "tn"]
        wanted = ["_".join(parts) for parts in itertools.product(*columns)]
    return [name for name in wanted if name not in present]
