"""Writes captures of made-up platforms, whole or spoiled."""

import gzip
import json
import lzma
from collections.abc import Mapping
from pathlib import Path

from nestwalk_sim.memory import Memory
from nestwalk_sim.model import Access, ModelConfig, Request, UnitState, translate

PROBE_HEADER = "source_id,pasid,address,write,granted,host_address,page_size,fault"


def image_bytes(image: Mapping[int, bytes]) -> bytes:
    """The records of a memory image."""
    return b"".join(address.to_bytes(8, "little") + page for address, page in image.items())


def probe_rows(memory: Memory, state: UnitState, requests: list[Request]) -> list[str]:
    """Lines of a probe table with the model's answers."""
    rows = []
    for request in requests:
        result = translate(memory, state, ModelConfig(), request, updating=False)
        pasid = "" if request.pasid is None else str(request.pasid)
        asked = f"{request.source_id:#x},{pasid},{request.address:#x},{int(request.access is Access.WRITE)}"
        size = hex(result.page_size) if result.page_size else "0x1000"
        answer = f"1,{result.address:#x},{size}," if result.granted else f"0,,,{result.fault:#x}"
        rows.append(f"{asked},{answer}")
    return rows


def write_capture(folder: Path, memory: Memory, state: UnitState, rows: list[str], **phase: object) -> dict:
    """Write a capture of one phase; the JSON, to be changed and written again with :func:`write_json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.img.xz").write_bytes(lzma.compress(image_bytes(memory.image())))
    write_rows(folder / "probes.csv.gz", rows)
    registers = {"RTADDR": hex(state.root_table | state.ttm << 10), "GSTS": "0xc4000000"}
    granted = sum(row.split(",")[4] == "1" for row in rows)
    entry = {"name": "only", "memory": "memory.img.xz", "registers": registers, "requests": "probes.csv.gz"}
    entry |= {"count": len(rows), "granted": granted} | phase
    mode = "scalable" if state.ttm else "legacy"
    top = {"format": 1, "name": folder.name, "mode": mode, "origin": "made up", "phases": [entry]}
    write_json(folder, top)
    return top


def write_json(folder: Path, top: object) -> None:
    (folder / "capture.json").write_text(json.dumps(top))


def write_rows(path: Path, rows: list[str], header: str = PROBE_HEADER) -> None:
    path.write_bytes(gzip.compress("\n".join([header, *rows, ""]).encode()))
