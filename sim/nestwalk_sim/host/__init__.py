"""The host stack: what Linux, a VMM and its guests do with the unit, in Python and with Linux's names.

It reaches the unit through a `Transport` alone (registers and host memory), so that the same objects drive a
simulation, a software model and a board. Only the package `vtd` touches registers and the unit's tables; what lies
above calls its methods. Sections named S01, R1, ... are those of the host-software reference; § is the hardware
reference.
"""
