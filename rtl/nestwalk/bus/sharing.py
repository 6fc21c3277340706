"""How software shares out what devices and domains have in common: cache ways, walk slots, prefetches."""

from amaranth.hdl import Array, Cat, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Member

__all__ = ["PARTITIONS", "WAY_BITS", "Sharing", "domain_ways", "sharing_port"]

PARTITIONS = 4
"""The lowest bits of a domain identifier choose its partition."""

WAY_BITS = 4
"""Ways that a partition's mask tells apart."""


class Sharing(data.Struct):
    """What the registers IMPCTL and CPW say; constant as far as the configuration lacks it.

    ``prefetch``: pages may be looked up ahead. ``walk_limit``: walks of one requester in flight at once, 0 for any
    number. ``ways``: for each partition a mask of the ways that fills of its domains may replace, 0 for all.
    """

    prefetch: 1
    walk_limit: 5
    ways: data.ArrayLayout(WAY_BITS, PARTITIONS)


def sharing_port() -> Member:
    """An input of `Sharing`."""
    return In(Sharing, init={"prefetch": 1})


def domain_ways(masks: data.View, domain_id: Value, ways: int) -> Value:
    """The ways, one bit each, that a fill of ``domain_id`` may replace in a cache of ``ways`` ways.

    In a cache of fewer ways than a mask has bits, each way has several of them and one is enough; in one of more, each
    bit stands for several ways.
    """
    mask = Array(masks)[domain_id[: (PARTITIONS - 1).bit_length()]]
    allowed = []
    for way in range(ways):
        first = way * WAY_BITS // ways
        allowed.append(mask[first : max(first + 1, (way + 1) * WAY_BITS // ways)].any())
    return Cat(allowed) | (mask == 0).replicate(ways)
