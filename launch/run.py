"""From a command line to results: `python launch/run.py --exp=digits_vp`.

The story: read the flags, find the experiment, apply the settings, then describe it or run its
task. Nothing slow is imported before it is needed; see `--help` for the flags.
"""
# PYTHON_ARGCOMPLETE_OK: a shell that asks is answered, see docs/command_line.md.

# Before all other imports: a Ctrl-C may come in any of them.
import os
import sys

if not __package__:
    # Run as a script, Python looks beside this file; the packages are one folder up, and
    # experiments from outside the repository are found from where the user stands.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    sys.path.append(os.getcwd())  # noqa: PTH109

    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import gc
import logging
from collections.abc import Sequence

from diffusion_ode.distributed import joining
from diffusion_ode.errors import UserError, say_unforeseen
from diffusion_ode.exit_statuses import FAILED, INTERRUPTED, REFUSED
from diffusion_ode.leaving import leave_in_order
from diffusion_ode.streams import LastingStream
from launch import flags
from launch.compilation_cache import keep_compilations
from launch.screen import quiet_about_closed_loops, show


def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks; returns the exit status."""
    try:
        request = flags.read(arguments)
        if request.listing is not None:
            from launch.listing import listing

            return show(listing(request.listing).splitlines())
        assert request.experiment is not None  # the flags ask for one or for the listing
        return launch_experiment(request.experiment, request, arguments)
    except UserError as error:
        from experiments.config.building import sentence

        if joining.speaks(error):
            print(sentence(error), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("Interrupted; run the same command to go on.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # of a task it would be in the log; nothing has begun
        say_unforeseen(error)
        return FAILED


def launch_experiment(name: str, request: flags.Request, arguments: Sequence[str]) -> int:
    """Describes the experiment or runs its task."""
    from experiments import registry
    from experiments.config.overrides import override

    entry = registry.find(name)
    config = override(
        registry.configuration_of(entry),
        request.overrides,
        lambda remark: print(remark, file=sys.stderr),
    )
    from diffusion_ode.backend import check_devices, take_turns

    if request.describe is not None:
        from launch.describing import description

        if request.target is None:  # a slice must come before JAX looks for devices
            check_devices()
        collect_garbage_again()
        full = request.describe == "full"
        return show(description(entry, config, request.device, request.target, full))
    from launch.performing import perform, prepare

    run = prepare(entry.name, config, request, arguments)
    collect_garbage_again()
    leave_in_order()  # from here on other processes may have to be told
    take_turns()
    joining.join(request.peers, request.wait_for_peers)
    check_devices()
    return perform(run, request.task)


def collect_garbage_again() -> None:
    """From now on, but never among what is there by now: the libraries stay to the end."""
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    # To search what is being imported for garbage, of which there is none, would take an eighth of
    # the time to the first step.
    gc.disable()
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    # A library that finds no handler at the root, as absl does when Orbax is imported, puts one
    # there that sends whole tracebacks to the screen; a task's console keeps them for the log.
    logging.getLogger().addHandler(logging.NullHandler())
    sys.unraisablehook = quiet_about_closed_loops
    keep_compilations()
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:  # after the help, or interrupted after saving
        status = end.code
    joining.end(status)
