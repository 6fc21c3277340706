"""AXI4 and AXI4-Lite signatures, seen from the manager. Names are those of the AMBA AXI specification in lower case."""

from amaranth.lib import enum
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["Axi4LiteSignature", "Axi4Signature", "AxiResponse"]


class AxiResponse(enum.Enum, shape=2):
    """RRESP / BRESP."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Axi4Signature(Signature):
    """All five channels of an AXI4 manager.

    Parameters
    ----------
    address_width, data_width, id_width, user_width : int
        In bits; ``user_width`` 0 leaves the USER signals out.
    """

    def __init__(self, *, address_width: int, data_width: int, id_width: int, user_width: int = 0):
        self.address_width = address_width
        self.data_width = data_width
        self.id_width = id_width
        self.user_width = user_width

        def address_channel(prefix: str):
            return {
                f"{prefix}valid": Out(1),
                f"{prefix}ready": In(1),
                f"{prefix}id": Out(id_width),
                f"{prefix}addr": Out(address_width),
                f"{prefix}len": Out(8),
                f"{prefix}size": Out(3),
                f"{prefix}burst": Out(2),
                f"{prefix}lock": Out(1),
                f"{prefix}cache": Out(4),
                f"{prefix}prot": Out(3),
                f"{prefix}qos": Out(4),
            }

        members = {
            **address_channel("aw"),
            "wvalid": Out(1),
            "wready": In(1),
            "wdata": Out(data_width),
            "wstrb": Out(data_width // 8),
            "wlast": Out(1),
            "bvalid": In(1),
            "bready": Out(1),
            "bid": In(id_width),
            "bresp": In(2),
            **address_channel("ar"),
            "rvalid": In(1),
            "rready": Out(1),
            "rid": In(id_width),
            "rdata": In(data_width),
            "rresp": In(2),
            "rlast": In(1),
        }
        if user_width:
            members |= {f"{channel}user": Out(user_width) for channel in ("aw", "w", "ar")}
            members |= {f"{channel}user": In(user_width) for channel in ("b", "r")}
        super().__init__(members)


class Axi4LiteSignature(Signature):
    """All five channels of an AXI4-Lite manager.

    Parameters
    ----------
    address_width, data_width : int
        In bits; ``data_width`` is 32 or 64.
    """

    def __init__(self, *, address_width: int, data_width: int):
        self.address_width = address_width
        self.data_width = data_width
        super().__init__(
            {
                "awvalid": Out(1),
                "awready": In(1),
                "awaddr": Out(address_width),
                "awprot": Out(3),
                "wvalid": Out(1),
                "wready": In(1),
                "wdata": Out(data_width),
                "wstrb": Out(data_width // 8),
                "bvalid": In(1),
                "bready": Out(1),
                "bresp": In(2),
                "arvalid": Out(1),
                "arready": In(1),
                "araddr": Out(address_width),
                "arprot": Out(3),
                "rvalid": In(1),
                "rready": Out(1),
                "rdata": In(data_width),
                "rresp": In(2),
            }
        )
