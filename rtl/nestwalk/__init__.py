"""nestwalk: an IOMMU translation unit with the VT-d scalable-mode programming model. Hardware only.

One sub-package per stage that a request meets. Nothing here imports the simulator, the golden model or a test.
"""

__version__ = "0.1.0"
