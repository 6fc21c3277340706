"""The description that Python, C++ and SystemVerilog share."""

import re

import numpy as np
import pytest
from amaranth.lib import data

from nestwalk.bus.translation import TranslationRequest
from nestwalk.config import PRESETS
from nestwalk.verilog import Port
from nestwalk_sim.rtl import records
from nestwalk_sim.rtl.records import CORE_KNOBS, cpp_header, record_of, sv_package

WIDTHS = {"mem_rdata": 128, "mem_arid": 6, "request_payload": 116, "response_payload": 71}
PORTS = [Port(name, "input", width) for name, width in WIDTHS.items()]


@pytest.mark.parametrize("name", PRESETS)
def test_header_has_the_layouts_of_the_preset(name: str):
    cfg = PRESETS[name]
    header = cpp_header(cfg, PORTS)
    found = re.findall(r"Slice request_(\w+)\{(\d+), (\d+)\}", header)
    slices = {field: (int(offset), int(width)) for field, offset, width in found}
    layout = TranslationRequest(cfg)
    assert slices == {field: (layout[field].offset, layout[field].width) for field, _ in layout}
    assert f"TAG_WIDTH = {cfg.tag_width};" in header


def test_unknown_field_is_refused(monkeypatch):
    class Longer(data.StructLayout):
        def __init__(self, cfg):
            super().__init__({**{name: field.shape for name, field in TranslationRequest(cfg)}, "colour": 3})

    monkeypatch.setattr(records, "TranslationRequest", Longer)
    with pytest.raises(ValueError, match="differ in colour"):
        cpp_header(PRESETS["DEFAULT"], PORTS)


def test_package_has_every_width():
    package = sv_package(PORTS)
    assert "localparam int unsigned REQUEST_PAYLOAD = 116;" in package
    assert "localparam int unsigned ATS_PAGE_REQUEST_PAYLOAD = 103;" in package
    assert package.count("localparam") == len(PORTS) + 2


def test_values_are_cut_to_their_field():
    record = record_of(CORE_KNOBS, seed=1 << 64 | 7, gap_percent=50)
    assert record["seed"].tolist() == [7]
    assert record["gap_percent"].tolist() == [50]
    assert record.dtype == np.dtype(CORE_KNOBS)
