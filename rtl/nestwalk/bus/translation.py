"""The core port: translation requests in, translation responses out, tagged and answered in any order."""

from amaranth.hdl import C, Value
from amaranth.lib import data, enum

from ..config import IommuConfig
from ..formats.fault import FaultReason
from ..formats.pasid import TranslationMode

__all__ = [
    "Access",
    "AddressType",
    "PageSize",
    "PageVerdict",
    "RootPointer",
    "TranslationRequest",
    "TranslationResponse",
    "is_page_request",
]


class Access(enum.Enum, shape=2):
    """What a request does to its page (§3.1)."""

    READ = 0
    WRITE = 1
    ATOMIC = 2
    ZERO_LENGTH_READ = 3


class AddressType(enum.Enum, shape=2):
    """The AT field of a PCIe request (§3.1, §10), and a value that PCIe has reserved."""

    UNTRANSLATED = 0
    TRANSLATION_REQUEST = 1
    TRANSLATED = 2
    PAGE_REQUEST = 3
    """The unit's own: a page request on its way through the tables (§7.1), which gets a `PageVerdict` for an answer."""


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


def is_page_request(cfg: IommuConfig, request: data.View) -> Value:
    """Whether a `TranslationRequest` is the unit's own for a page request: 1 bit, constant 0 where there are none."""
    return request.address_type == AddressType.PAGE_REQUEST if cfg.page_requests else C(0)


class PageVerdict(data.StructLayout):
    """What the tables say to a page request (§7.1, step 1).

    ``accepted``, or else its fault is on the way to the log; ``domain_id``, ``pasid`` (RID_PASID for one without) and
    ``mode`` are those of its address space where it is accepted.
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"accepted": 1, "domain_id": cfg.domain_bits, "pasid": 20, "mode": TranslationMode})


class RootPointer(data.StructLayout):
    """Snapshot of the global configuration that a request is accepted under.

    ``enabled`` is GSTS.TES; ``mode`` is RTADDR.TTM and ``root_table`` the 4 KiB page number in RTADDR, both as latched
    by SRTP (§1.6).
    """

    def __init__(self, cfg: IommuConfig):
        super().__init__({"enabled": 1, "mode": 2, "root_table": cfg.page_bits})
