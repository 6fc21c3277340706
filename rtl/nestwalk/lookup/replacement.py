"""Which way of its row, or which entry, a fill takes."""

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..bus.sharing import PARTITIONS, WAY_BITS, domain_ways

__all__ = ["Replacement"]


def lowest(bits: Value) -> Value:
    """The lowest of the bits that are set, alone."""
    return bits & (~bits + 1)[: len(bits)]


class Replacement(wiring.Component):
    """Chooses the place of a fill: the entry of equal key, else one that is not valid, else that whose turn it is.

    Only the place of an entry of equal key may be outside of what the fill's domain is allowed, because no key may have
    two entries. The turn passes over what is not allowed in an order that gives the others about equal shares.

    Parameters
    ----------
    ways : int
        Of a row, or the entries of a cache without rows.
    domain_bits : int
        Width of domain identifiers; 0 for a cache that is not partitioned.
    confines : bool
        Whether there is ``confined``.

    Attributes
    ----------
    domain_id, partitions : In
        Of the fill, at least two cycles before ``filled``, and the `nestwalk.bus.sharing.Sharing.ways`. Only with
        ``domain_bits``.
    confined : In(1)
        As early: instead of that whose turn it is, the fill takes the first place that it may.
    equal, valid : In
        The ways of equal key, at most one, and those that hold something.
    way : Out
        One-hot.
    evicts : Out(1)
        Something valid of another key is lost.
    filled : In(1)
        The fill is written: the next one takes its turn.
    """

    def __init__(self, ways: int, *, domain_bits: int = 0, confines: bool = False):
        self.ways = ways
        partitioned = {"domain_id": In(domain_bits), "partitions": In(data.ArrayLayout(WAY_BITS, PARTITIONS))}
        super().__init__(
            {
                **(partitioned if domain_bits else {}),
                **({"confined": In(1)} if confines else {}),
                "equal": In(ways),
                "valid": In(ways),
                "way": Out(ways),
                "evicts": Out(1),
                "filled": In(1),
            }
        )
        self.rotation = Signal(ways, init=1)
        self.allowed = Signal(ways, init=-1)

    def elaborate(self, platform):
        m = Module()
        free, turn = Signal(self.ways), self._turn(m)
        if "confined" in self.signature.members:
            turn = Mux(self.confined, lowest(self.allowed), turn)
        m.d.comb += [
            free.eq(lowest(~self.valid & self.allowed)),
            self.way.eq(Mux(self.equal.any(), self.equal, Mux(free.any(), free, turn))),
            self.evicts.eq(~self.equal.any() & ~free.any()),
        ]
        if self.ways > 1:
            with m.If(self.filled):
                m.d.sync += self.rotation.eq(self.rotation.rotate_left(1))
        return m

    def _turn(self, m) -> Value:
        rotation = self.rotation
        if "partitions" not in self.signature.members or self.ways == 1:
            m.d.comb += self.allowed.eq(-1)
            return rotation
        m.d.sync += self.allowed.eq(domain_ways(self.partitions, self.domain_id, self.ways))
        chosen, turn = C(0, self.ways), Signal(self.ways)
        for step in sorted(range(self.ways), key=lambda step: (step & -step) or self.ways, reverse=True):
            chosen = Mux(chosen.any(), chosen, rotation.rotate_left(step) & self.allowed)
        m.d.sync += turn.eq(chosen)
        return turn
