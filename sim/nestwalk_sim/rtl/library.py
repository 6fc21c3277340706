"""The C functions of the bench in the simulator's own process, by ctypes."""

import ctypes
from functools import cache

import numpy as np

__all__ = ["BenchError", "Hang", "library", "pointer"]

_U64, _U32, _INT, _VOID = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p

_FUNCTIONS = {
    "nw_restart": (None,),
    "nw_now": (_U64,),
    "nw_state": (_INT, _U32),
    "nw_forget": (None, _U32),
    "nw_deadline": (None, _U32, _U64),
    "nw_problem": (ctypes.c_char_p,),
    "nw_clear_problem": (None,),
    "nw_cycles": (_U32, _U64),
    "nw_reset": (_U32, _U64),
    "nw_watch_memory": (_U32, _U64, _U64, _U64),
    "nw_interrupt_count": (_U64, _U32),
    "nw_interrupt_level": (_INT, _U32),
    "nw_wait_interrupt": (_U32, _U32, _U64),
    "nw_submit": (_U32, _U32, _VOID, _VOID, _U64),
    "nw_cancel": (None, _U32),
    "nw_core_knobs": (None, _U32, _VOID),
    "nw_hang_limit": (None, _U64),
    "nw_dma": (_U32, _INT, _U64, _U64, _U32, _INT, _U32, ctypes.c_char_p),
    "nw_dma_result": (_INT, _U32, _VOID),
    "nw_request_pages": (_U32, _VOID, _VOID, _U64),
    "nw_page_responses": (_U64, _VOID, _U64),
    "nw_wait_page_responses": (_U32, _U64),
    "nw_page_knobs": (None, _VOID),
    "nw_csr": (_U32, _INT, _U32, _U32, _U64, _U64),
    "nw_csr_result": (_INT, _U32, ctypes.POINTER(_U64)),
    "nw_csr_skew": (None, _U32),
    "nw_read": (_INT, _U64, _VOID, _U64),
    "nw_write": (_INT, _U64, ctypes.c_char_p, _U64),
    "nw_clear_memory": (None,),
    "nw_add_pages": (None, _VOID, _U64),
    "nw_remove_pages": (None, _VOID, _U64),
    "nw_page_addresses": (_U64, _VOID),
    "nw_add_error": (None, _U64, _U64, _INT, _INT),
    "nw_clear_errors": (None,),
    "nw_fail_access": (None, _INT, _U64, _INT),
    "nw_memory_knobs": (None, _VOID),
    "nw_memory_counters": (None, _VOID),
    "nw_reads_of": (_U64, _U32),
    "nw_beat_bytes": (_U32,),
    "nw_memory_idle": (_INT,),
    "nw_trace": (_U64, _VOID, _U64),
    "nw_clear_trace": (None,),
}
"""Result and arguments of each function of bench.cpp."""


class BenchError(Exception):
    """The unit broke a protocol at one of its ports; the message says which and in which cycle."""


class Hang(BenchError):
    """Something that the unit must do did not happen in time."""


@cache
def library() -> ctypes.CDLL:
    """The simulator's process as a library."""
    process = ctypes.CDLL(None)
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(process, name)
        function.restype, function.argtypes = result, arguments
    return process


def pointer(array: np.ndarray) -> int:
    """Address of the elements of a contiguous array, which the caller keeps alive as long as C++ uses it."""
    return array.ctypes.data
