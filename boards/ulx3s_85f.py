"""ULX3S with an ECP5 LFE5U-85F, package CABGA381, speed grade 6."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .board import Board

__all__ = ["BOARD"]

BOARD = Board(name="ulx3s_85f", platform=ULX3S_85F_Platform, target_mhz=100.0)
