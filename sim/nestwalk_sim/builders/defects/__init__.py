"""Defects: each turns a sane random target into one that meets one fault condition, named as in §4."""

from . import paging, structures
from .catalogue import DEFECTS, Defect

__all__ = ["DEFECTS", "Defect", "paging", "structures"]
