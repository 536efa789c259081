"""Diffusion ODEs trained and judged by likelihood."""

TYPE_CHECKING = False  # typing's own would be imported for it, before a Ctrl-C is a sentence
if TYPE_CHECKING:
    from diffusion_ode.inference.diffusion_model import DiffusionModel

__version__ = "0.2.0.dev0"
__all__ = ["DiffusionModel"]


def __getattr__(name: str) -> object:
    """`DiffusionModel` on demand: importing the package for an error class must not import JAX."""
    if name == "DiffusionModel":
        from diffusion_ode.inference.diffusion_model import DiffusionModel

        return DiffusionModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
