"""Checkers that look on in every test: what the driver writes, in which order, and what is left when all is quiet.

They read registers, tables and descriptors with masks of their own and share nothing with the driver that they check.
"""

from .auditor import Auditor
from .monitor import BusMonitor
from .order import OrderChecker

__all__ = ["Auditor", "BusMonitor", "OrderChecker"]
