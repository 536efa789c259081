"""What a shell offers after TAB: flags, experiments, tasks, formats, and the paths of settings."""

import argparse
from collections.abc import Iterator

import argcomplete

from diffusion_ode.errors import UserError
from diffusion_ode.tasks import registry as tasks


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers the shell that asks by its environment, and ends the process."""
    completers = {
        "exp": _experiments,
        "task": _tasks,
        "set": _settings,
        "grid": _settings,
        "describe": _describing,
        "format": _formats,
    }
    for action in parser._actions:
        if action.dest in completers:
            action.completer = completers[action.dest]  # pyright: ignore[reportAttributeAccessIssue]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _experiments(prefix: str, **_: object) -> list[str]:
    """Names, of which a sweep takes several with commas between."""
    from experiments import registry

    before = "".join(prefix.rpartition(",")[:2])
    return [before + entry.name for entry in registry.entries()]


def _tasks(**_: object) -> list[str]:
    return [entry.name for entry in tasks.TASKS]


def _describing(**_: object) -> list[str]:
    return ["full"]


def _formats(**_: object) -> list[str]:
    from diffusion_ode.reporting.tables import FORMATS

    return list(FORMATS)


def _settings(prefix: str, parsed_args: argparse.Namespace, **_: object) -> Iterator[str]:
    """`PATH=` of the fields that the (first) experiment has under the settings before."""
    from experiments import registry
    from experiments.config.overrides import field_paths, override

    try:
        config = registry.configuration_of(registry.find((parsed_args.exp or "").partition(",")[0]))
        config = override(config, [one for one in parsed_args.set or () if "=" in one])
    except UserError:
        return
    yield from (f"{path}=" for path in field_paths(config) if path.startswith(prefix))
