"""A part of a capture, spread evenly over it."""

from dataclasses import replace

from ..capture import Capture

__all__ = ["thin"]


def thin(capture: Capture, requests: int) -> Capture:
    """The capture with about ``requests`` of its probes, taken at equal distances in each phase; all invalidations
    stay.
    """
    stride = max(1, -(-capture.requests // requests))
    return replace(capture, phases=[replace(phase, probes=phase.probes[::stride]) for phase in capture.phases])
