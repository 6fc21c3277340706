"""The unit's driver for testbenches."""

from nestwalk_sim.rtl.driver import Driver, Queue

__all__ = ["Driver", "Queue"]
