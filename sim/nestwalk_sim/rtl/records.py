"""What crosses the border between Python and the C++ side of the bench, described once.

A record is a numpy structure here and a plain ``struct`` there (`cpp_header`); how requests and responses lie in the
unit's flat vectors comes from the Amaranth layouts."""

from collections.abc import Iterable

import numpy as np
from amaranth.lib import data

from nestwalk.bus import ats
from nestwalk.bus.translation import TranslationRequest, TranslationResponse
from nestwalk.config import IommuConfig
from nestwalk.verilog import Port

__all__ = [
    "ACCESS",
    "ANSWER",
    "CORE_KNOBS",
    "MEMORY_COUNTERS",
    "MEMORY_KNOBS",
    "PAGE_KNOBS",
    "PAGE_REQUEST",
    "PAGE_RESPONSE",
    "REQUEST",
    "cpp_header",
    "record_of",
    "sv_package",
]

REQUEST = np.dtype(
    [
        ("address", "u8"),
        ("pasid", "u4"),
        ("source_id", "u2"),
        ("pasid_valid", "u1"),
        ("access", "u1"),
        ("address_type", "u1"),
        ("privileged", "u1"),
        ("execute", "u1"),
        ("one_dword", "u1"),
    ],
    align=True,
)
"""A request at the core port: the fields of `TranslationRequest` but for the tag, which the bench assigns."""

ANSWER = np.dtype(
    [
        ("address", "u8"),
        ("accept_cycle", "u8"),
        ("response_cycle", "u8"),
        ("page_size", "u4"),
        ("granted", "u1"),
        ("fault", "u1"),
        ("answered", "u1"),
    ],
    align=True,
)
"""The answer to a request. ``page_size`` is in bytes; cycles are those of the clock edges that saw the request
accepted and the response first valid; ``answered`` is 0 for a request that was cancelled before it was sent."""

ACCESS = np.dtype(
    [
        ("cycle", "u8"),
        ("address", "u8"),
        ("data", "u8"),
        ("id", "u2"),
        ("write", "u1"),
        ("beats", "u1"),
        ("size", "u1"),
        ("burst", "u1"),
        ("lock", "u1"),
        ("response", "u1"),
    ],
    align=True,
)
"""One transaction on the ``mem`` port. ``cycle`` is that of its address, ``beats`` their number less one (AxLEN),
``size`` AxSIZE, ``burst`` AxBURST, ``data`` the first 8 bytes read or written (fewer for a smaller ``size``),
``response`` the worst of its beats, 255 while there is none."""

MEMORY_KNOBS = np.dtype(
    [
        ("seed", "u8"),
        ("latency", "u4"),
        ("jitter", "u4"),
        ("stall_percent", "u4"),
        ("interleave", "u1"),
        ("moment", "u1"),
        ("exclusives", "u1"),
        ("exclusive_loss_percent", "u1"),
        ("trace", "u1"),
    ],
    align=True,
)
"""How the memory behaves; see `nestwalk_sim.rtl.memory.MemoryTiming`."""

MEMORY_COUNTERS = np.dtype(
    [
        ("reads", "u8"),
        ("read_beats", "u8"),
        ("writes", "u8"),
        ("exclusive_failures", "u8"),
    ],
    align=True,
)
"""Transactions on the ``mem`` port since the simulation began."""

CORE_KNOBS = np.dtype(
    [
        ("seed", "u8"),
        ("max_outstanding", "u4"),
        ("gap_percent", "u4"),
        ("response_stall_percent", "u4"),
    ],
    align=True,
)
"""How requests are driven; see `nestwalk_sim.rtl.unit.Traffic`."""

PAGE_REQUEST = np.dtype(
    [
        ("page", "u8"),
        ("pasid", "u4"),
        ("source_id", "u2"),
        ("group", "u2"),
        ("pasid_valid", "u1"),
        ("read", "u1"),
        ("write", "u1"),
        ("last", "u1"),
        ("execute", "u1"),
        ("privileged", "u1"),
    ],
    align=True,
)
"""A page request message: the fields of `nestwalk.bus.ats.PageRequest`."""

PAGE_RESPONSE = np.dtype(
    [
        ("cycle", "u8"),
        ("pasid", "u4"),
        ("source_id", "u2"),
        ("group", "u2"),
        ("pasid_valid", "u1"),
        ("code", "u1"),
    ],
    align=True,
)
"""A page group response message, and the cycle of its transfer."""

PAGE_KNOBS = np.dtype(
    [
        ("seed", "u8"),
        ("gap_percent", "u4"),
        ("response_stall_percent", "u4"),
    ],
    align=True,
)
"""How devices ask for pages; see `nestwalk_sim.rtl.pages.PagePort`."""

_RECORDS = {
    "Request": REQUEST,
    "Answer": ANSWER,
    "Access": ACCESS,
    "MemoryKnobs": MEMORY_KNOBS,
    "MemoryCounters": MEMORY_COUNTERS,
    "CoreKnobs": CORE_KNOBS,
    "PageRequest": PAGE_REQUEST,
    "PageResponse": PAGE_RESPONSE,
    "PageKnobs": PAGE_KNOBS,
}

_MESSAGES = {"page_request": ats.PageRequest.as_shape(), "page_response": ats.PageResponse.as_shape()}
"""Layouts of what crosses the ats port, which not every unit has."""

_BENCH_FIELDS = {"tag", "page_size"}
"""Fields of the vectors that the bench treats itself: it assigns tags and turns the page-size code into bytes."""


def record_of(dtype: np.dtype, **values: int) -> np.ndarray:
    """One record, as an array for C++; integers are cut to the width of their field."""
    record = np.zeros(1, dtype)
    for name, value in values.items():
        record[name] = int(value) & (1 << 8 * record[name].itemsize) - 1
    return record


def sv_package(ports: Iterable[Port]) -> str:
    """SystemVerilog package ``bench_widths``: the width of every port of the unit, in upper case (``MEM_RDATA`` …), and
    of messages whether or not it has them. ``NESTWALK_DMA`` is defined for a unit with a port for devices.
    """
    widths = {f"ats_{name}_payload": layout.size for name, layout in _MESSAGES.items()}
    widths |= {port.name: port.width for port in ports}
    lines = [f"  localparam int unsigned {name.upper()} = {width};" for name, width in widths.items()]
    define = ["`define NESTWALK_DMA"] if "dma_araddr" in widths else []
    return "\n".join([*define, "package bench_widths;", *lines, "endpackage", ""])


def cpp_header(cfg: IommuConfig, ports: Iterable[Port]) -> str:
    """C++ header with the records, the widths that the C++ side needs, and the packing of requests and responses.

    Raises
    ------
    ValueError
        When a layout of the core port has a field that its record lacks, or the other way round.
    """
    widths = {port.name: port.width for port in ports}
    request, response = TranslationRequest(cfg), TranslationResponse(cfg)
    constants = {
        "DATA_BYTES": widths["mem_rdata"] // 8,
        "ID_WIDTH": widths["mem_arid"],
        "TAG_WIDTH": cfg.tag_width,
        "REQUEST_WIDTH": request.size,
        "RESPONSE_WIDTH": response.size,
        **{f"{name.upper()}_WIDTH": layout.size for name, layout in _MESSAGES.items()},
    }
    _check_fields("TranslationRequest", request, REQUEST, extra=set())
    _check_fields("TranslationResponse", response, ANSWER, extra={"accept_cycle", "response_cycle", "answered"})
    _check_fields("PageRequest", _MESSAGES["page_request"], PAGE_REQUEST, extra=set())
    _check_fields("PageResponse", _MESSAGES["page_response"], PAGE_RESPONSE, extra={"cycle"})
    parts = [
        "#pragma once",
        "#include <cstddef>",
        "#include <cstdint>",
        "",
        "struct Slice { unsigned offset, width; };",
        *(f"constexpr unsigned {name} = {value};" for name, value in constants.items()),
        *(_struct(name, dtype) for name, dtype in _RECORDS.items()),
        *_layout("request", request),
        *_layout("response", response),
        *(line for name, layout in _MESSAGES.items() for line in _layout(name, layout)),
        "template <class Put> void pack_request(const Request& r, Put put) {",
        *(f"    put(request_{name}, r.{name});" for name, _ in request if name not in _BENCH_FIELDS),
        "}",
        "template <class Get> void unpack_response(Answer& a, Get get) {",
        *(f"    a.{name} = get(response_{name});" for name, _ in response if name not in _BENCH_FIELDS),
        "}",
        "template <class Put> void pack_page_request(const PageRequest& r, Put put) {",
        *(f"    put(page_request_{name}, r.{name});" for name, _ in _MESSAGES["page_request"]),
        "}",
        "template <class Get> void unpack_page_response(PageResponse& a, Get get) {",
        *(f"    a.{name} = get(page_response_{name});" for name, _ in _MESSAGES["page_response"]),
        "}",
        "",
    ]
    return "\n".join(parts)


def _check_fields(what: str, layout: data.StructLayout, record: np.dtype, *, extra: set[str]) -> None:
    in_layout = {name for name, _ in layout} - {"tag"}
    in_record = set(record.names or ()) - extra
    if in_layout != in_record:
        raise ValueError(f"{what} and the bench's record differ in {', '.join(sorted(in_layout ^ in_record))}")


def _struct(name: str, dtype: np.dtype) -> str:
    """A C++ ``struct`` that the compiler lays out as numpy does, which it checks."""
    members, checks = [], []
    for key, (kind, offset, *_) in (dtype.fields or {}).items():
        members.append(f"uint{8 * kind.itemsize}_t {key};")
        checks.append(f"static_assert(offsetof({name}, {key}) == {offset});")
    members, checks = " ".join(members), "\n".join(checks)
    return f"struct {name} {{ {members} }};\nstatic_assert(sizeof({name}) == {dtype.itemsize});\n{checks}"


def _layout(prefix: str, layout: data.StructLayout) -> list[str]:
    """Position of each field in the flat vector."""
    return [f"constexpr Slice {prefix}_{name}{{{field.offset}, {field.width}}};" for name, field in layout]
