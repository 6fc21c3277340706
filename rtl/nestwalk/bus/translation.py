"""The core port: translation requests in, translation responses out, tagged and answered in any order."""

from amaranth.lib import data, enum

from ..config import IommuConfig
from ..formats.fault import FaultReason

__all__ = ["Access", "AddressType", "PageSize", "RootPointer", "TranslationRequest", "TranslationResponse"]


class Access(enum.Enum, shape=2):
    """What a request does to its page (§3.1)."""

    READ = 0
    WRITE = 1
    ATOMIC = 2
    ZERO_LENGTH_READ = 3


class AddressType(enum.Enum, shape=2):
    """The AT field of a PCIe request (§3.1, §10)."""

    UNTRANSLATED = 0
    TRANSLATION_REQUEST = 1
    TRANSLATED = 2


class PageSize(enum.Enum, shape=2):
    """Size of the page that a translation holds for."""

    SIZE_4K = 0
    SIZE_2M = 1
    SIZE_1G = 2


class TranslationRequest(data.StructLayout):
    """One request to translate.

    ``tag`` is unique among the requests in flight; ``source_id`` is the PCI requester id; ``pasid`` counts where
    ``pasid_valid``; ``privileged`` and ``execute`` count for requests with PASID; ``one_dword`` says that the access
    is exactly one aligned DWORD, which tells interrupt requests in FEEx_xxxxh (§3.2).
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "tag": cfg.tag_width,
                "source_id": 16,
                "pasid_valid": 1,
                "pasid": 20,
                "address": 64,
                "access": Access,
                "address_type": AddressType,
                "privileged": 1,
                "execute": 1,
                "one_dword": 1,
            }
        )


class TranslationResponse(data.StructLayout):
    """The answer to a request.

    ``granted`` with ``address`` (host, whole byte address) and the size of the page around it, or blocked with the
    fault's reason code (§4).
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__(
            {
                "tag": cfg.tag_width,
                "granted": 1,
                "fault": FaultReason,
                "address": cfg.haw,
                "page_size": PageSize,
            }
        )


class RootPointer(data.StructLayout):
    """Snapshot of the global configuration that a request is accepted under.

    ``enabled`` is GSTS.TES; ``mode`` is RTADDR.TTM and ``root_table`` the 4 KiB page number in RTADDR, both as latched
    by SRTP (§1.6).
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"enabled": 1, "mode": 2, "root_table": cfg.page_bits})
