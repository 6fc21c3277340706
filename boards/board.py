"""What a build needs to know of a board."""

from dataclasses import dataclass

from amaranth.vendor import LatticeECP5Platform

__all__ = ["Board"]

_DEVICES = {"LFE5U-25F": "--25k", "LFE5U-45F": "--45k", "LFE5U-85F": "--85k", "LFE5UM5G-45F": "--um5g-45k"}
_PACKAGES = {"BG256": "CABGA256", "BG381": "CABGA381", "BG554": "CABGA554", "BG756": "CABGA756"}


@dataclass(frozen=True)
class Board:
    """A board with an ECP5.

    Parameters
    ----------
    name : str
        Name on the command line.
    platform : type
        The description of its device, pins and connectors.
    target_mhz : float
        Clock frequency in MHz that builds for this board aim at.
    """

    name: str
    platform: type[LatticeECP5Platform]
    target_mhz: float

    @property
    def nextpnr_options(self) -> list[str]:
        """Device, package and speed grade for nextpnr-ecp5."""
        platform = self.platform
        device, package, speed = str(platform.device), str(platform.package), str(platform.speed)
        return [_DEVICES[device], "--package", _PACKAGES[package], "--speed", speed]
