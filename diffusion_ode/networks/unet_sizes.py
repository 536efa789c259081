"""The sizes of a U-Net, read off its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusion_ode.networks.unet import UNet

# A network with n Fourier features was published with the exponents up to this one.
_LAST_EXPONENT = 7


@dataclass(frozen=True)
class UNetSizes:
    """What shapes of parameters say of a `UNet`.

    Attributes:
      features, blocks, attention: as in `UNet`.
      fourier: the number of its exponents.
      channels: of the images.
    """

    features: int
    blocks: int
    attention: bool
    fourier: int
    channels: int

    @property
    def fourier_exponents(self) -> tuple[int, ...]:
        """The exponents, by their number: shapes tell no more."""
        return tuple(range(_LAST_EXPONENT + 1 - self.fourier, _LAST_EXPONENT + 1))

    def settings(self, network: "UNet") -> list[str]:
        """The fields of `network` to change, as `field=value`."""
        wanted = {
            "features": self.features,
            "blocks": self.blocks,
            "attention": self.attention,
            "fourier_exponents": self.fourier_exponents,
        }
        if len(network.fourier_exponents) == self.fourier:
            del wanted["fourier_exponents"]
        return [f"{name}={v!r}" for name, v in wanted.items() if getattr(network, name) != v]


def unet_sizes(parameters: Mapping[str, Any]) -> UNetSizes | None:
    """The sizes of the U-Net that these are the parameters of; None if they are of no U-Net.

    Args:
      parameters: arrays or their shapes (anything with `.shape`), nested by the published names.
    """
    try:
        *_, inputs, features = parameters["conv_in"]["kernel"].shape
        *_, channels = parameters["conv_out"]["kernel"].shape
        fourier, remainder = divmod(inputs - channels, 2 * channels)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    blocks = sum(name.startswith("down.block_") for name in parameters)
    if remainder or not blocks or not 0 <= fourier <= _LAST_EXPONENT + 1:
        return None
    attention = any(name.startswith("down.attn_") for name in parameters)
    return UNetSizes(features, blocks, attention, fourier, channels)


def remedy(network: "UNet", parameters: Mapping[str, Any], channels: int) -> str:
    """What to do about parameters that do not fit; see `ReadsPublished`."""
    sizes = unet_sizes(parameters)
    if sizes is None:
        return "give a checkpoint of the U-Net"
    if sizes.channels != channels:
        several = "s" if sizes.channels > 1 else ""
        return f"it is for images of {sizes.channels} channel{several}, these have {channels}"
    settings = sizes.settings(network)
    if not settings:
        return "its sizes are right, so it is damaged or of another network: fetch it again"
    return "it fits with " + " ".join(f"--set model.network.{setting}" for setting in settings)
