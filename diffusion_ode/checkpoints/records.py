"""The JSON in a checkpoint: the data's state, the config, and facts, all under one seal."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_ode.checkpoints.digest import LeafFacts
from diffusion_ode.checkpoints.errors import DamagedCheckpoint, raise_unless_damage
from diffusion_ode.checkpoints.facts import checked_data_state, checked_facts
from diffusion_ode.configs.upgrade import upgraded
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import parsed_json, read_regular

DATA, CONFIG, FACTS = "data", "config", "facts"  # the items' folders, beside the arrays'
_FILE = "metadata"  # the name that Orbax's JSON handler gives its only file
_SHOWN = 3
MAX_BYTES, MAX_ITEMS = 1 << 24, 1 << 18
"""Of a record; the facts of ten thousand arrays take a megabyte and fifty thousand items."""
_MISSING = {
    DATA: f"the state of its data ({DATA}/{_FILE}) is missing",
    # The workdir's may be another by now: the seal tells.
    CONFIG: f"its config is missing: copy the workdir's config.json to {CONFIG}/{_FILE} in it",
    FACTS: f"the facts about it ({FACTS}/{_FILE}) are missing",
}


@dataclass(frozen=True)
class Records:
    """The records of one checkpoint, their seal checked; `leaves` are facts of each array."""

    data_state: dict[str, Any]
    document: dict[str, Any]
    facts: dict[str, Any]
    leaves: dict[str, LeafFacts]


def sealed_records(
    data_state: Mapping[str, Any],
    document: Mapping[str, Any],
    facts: Mapping[str, Any],
    leaves: Mapping[str, LeafFacts],
) -> dict[str, Any]:
    """The records to write, by item, as they will be read back.

    Raises:
        TypeError: something is not JSON; better now than in the background.
    """
    listing = {name: [leaf.dtype, list(leaf.shape), leaf.digest] for name, leaf in leaves.items()}
    unsealed = {DATA: {**data_state}, CONFIG: {**document}, FACTS: {**facts, "leaves": listing}}
    records = json.loads(json.dumps(unsealed))
    records[FACTS]["seal"] = _seal(records)
    return records


def read_records(folder: Path) -> Records:
    """Read a checkpoint's records.

    Raises:
        DamagedCheckpoint: one is missing, is no JSON, or is not what was saved.
    """
    with raise_unless_damage():
        records = {item: _record(folder, item) for item in (DATA, CONFIG, FACTS)}
        facts = records[FACTS]
        if not all(isinstance(record, dict) for record in records.values()):
            raise DamagedCheckpoint("its records are not what was saved")
        if facts.pop("seal") != _seal(records):
            raise DamagedCheckpoint("its records are not what was saved")
        leaves = {
            name: LeafFacts(tuple(shape), dtype, digest)
            for name, (dtype, shape, digest) in facts.pop("leaves").items()
        }
        data_state = checked_data_state(records[DATA])
        return Records(data_state, upgraded(records[CONFIG]), checked_facts(facts), leaves)


def _record(folder: Path, item: str) -> Any:
    try:
        return parsed_json(read_regular(folder / item / _FILE, MAX_BYTES), MAX_ITEMS)
    except FileNotFoundError as missing:
        raise DamagedCheckpoint(_MISSING[item]) from missing


def check_fit(
    folder: Path, saved: Mapping[str, LeafFacts], wanted: Mapping[str, str], whole: bool
) -> None:
    """Compare what a checkpoint holds with what the config wants, before any array is read.

    Args:
        folder: the checkpoint, for the message.
        saved: facts of its leaves by path.
        wanted: what each leaf is to be, such as `float32[3]`, by path.
        whole: whether it may hold no other leaves either; else only in the fields of `wanted`.

    Raises:
        UserError: they differ; it names the first differing leaves.
    """
    fields = {name.split("/")[0] for name in wanted}
    found = {
        name: leaf.kind for name, leaf in saved.items() if whole or name.split("/")[0] in fields
    }
    differing = [
        f"{name} is {found.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        remedy = "give the --set that it was trained with, or another --workdir"
        if not whole and all(one.startswith("optimizer/") for one in differing):
            remedy = "set train.warm_start.optimizer=False to begin with a fresh optimiser"
        raise UserError(
            f"Checkpoint {folder} does not fit this config ({listed(differing)}): {remedy}."
        )


def listed(reasons: Iterable[str]) -> str:
    """The first few of many, and how many more there are."""
    reasons = list(reasons)
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    return "; ".join([*reasons[:_SHOWN], *more])


def _seal(records: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()
