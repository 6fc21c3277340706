"""A unit in software: registers, invalidation queue, fault records and caches around the golden model.

The host stack runs on it without hardware. Its caches forget only what an invalidation covers, so that a recipe that
forgets one shows as a stale answer.
"""

from .transport import ModelTransport
from .unit import ModelUnit, model_config

__all__ = ["ModelTransport", "ModelUnit", "model_config"]
