"""The ``dma`` port, and what the front end keeps of its transfers."""

from amaranth.hdl import Cat, Value
from amaranth.lib import data
from amaranth.lib.wiring import Out, Signature

from ..bus.axi import Axi4Signature, AxiResponse
from ..config import IommuConfig

__all__ = ["Burst", "DmaSignature", "OutBurst", "ReadBeat", "Translation", "WriteAnswer", "WriteBeat", "index_shape"]


class DmaSignature(Signature):
    """AXI4 with 64 address bits and, beside each address, who asks; seen from the device.

    ``mmusid`` is the requester id, ``mmussid`` the PASID where ``mmussidv``, and ``mmuatst`` marks an address as
    translated by the device. AxPROT[0] is privileged, AxPROT[2] an instruction fetch.
    """

    def __init__(self, cfg: IommuConfig):
        axi = Axi4Signature(
            address_width=64, data_width=cfg.data_width, id_width=cfg.id_width, user_width=cfg.user_width
        )
        sideband = {"mmusid": Out(16), "mmussid": Out(20), "mmussidv": Out(1), "mmuatst": Out(1)}
        super().__init__(
            {**axi.members, **{f"{channel}{name}": flow for channel in ("aw", "ar") for name, flow in sideband.items()}}
        )


def index_shape(cfg: IommuConfig) -> range:
    """Numbers of the bursts of one direction that are in translation."""
    return range(cfg.dma_translations)


class _Channel(data.StructLayout):
    """A transfer of an AXI channel, or part of it. Members are named as the signals, without the channel's letters."""

    def of(self, port, channel: str) -> Value:
        """What the channel of ``port`` carries. The fields that it has no signal for come last, and are 0."""
        signals = [getattr(port, channel + name, None) for name, _ in self]
        return Cat(signal for signal in signals if signal is not None)


class Burst(_Channel):
    """What reaches ``out`` as it came, and the generation that the burst was accepted in."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({**_attributes(cfg), "generation": 1})


class OutBurst(_Channel):
    """A transfer of the AR or AW channel of ``out``."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({**_attributes(cfg), "addr": cfg.haw})

    def made_of(self, burst, address) -> Value:
        """A burst as it came, with its translated address."""
        return Cat(*(burst[name] for name, _ in self if name != "addr"), address)


class ReadBeat(_Channel):
    """A transfer of the R channel."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"id": cfg.id_width, "data": cfg.data_width, "resp": AxiResponse, "last": 1} | _user(cfg))


class WriteBeat(_Channel):
    """A transfer of the W channel."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"data": cfg.data_width, "strb": cfg.data_width // 8, "last": 1} | _user(cfg))


class WriteAnswer(_Channel):
    """A transfer of the B channel."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"id": cfg.id_width, "resp": AxiResponse} | _user(cfg))


class Translation(data.StructLayout):
    """The core's answer for the burst number ``index`` of a direction."""

    def __init__(self, cfg: IommuConfig):
        super().__init__({"valid": 1, "index": index_shape(cfg), "granted": 1, "address": cfg.haw})


def _attributes(cfg: IommuConfig) -> dict:
    widths = {"id": cfg.id_width, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3, "qos": 4}
    return widths | _user(cfg)


def _user(cfg: IommuConfig) -> dict:
    return {"user": cfg.user_width} if cfg.user_width else {}
