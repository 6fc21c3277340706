"""Predicates of the structures against the golden model, on random entries that are sane or broken in a few bits."""

from dataclasses import fields

import pytest
from amaranth.hdl import C, Signal, Value

from nestwalk.bus.memory import PIECE_BITS
from nestwalk.config import PRESETS, IommuConfig
from nestwalk.formats.context import LegacyContextEntry, ScalableContextEntry
from nestwalk.formats.fault import FaultReason, is_qualified
from nestwalk.formats.first_stage import FirstStageEntry
from nestwalk.formats.pasid import PasidDirectoryEntry, PasidEntry
from nestwalk.formats.root import RootEntry, ScalableRootEntry
from nestwalk.formats.second_stage import SecondStageEntry
from nestwalk_sim.model import structures as model
from nestwalk_sim.model.config import ModelConfig
from nestwalk_sim.model.fault_conditions import FAULT_CONDITIONS, TranslationFault
from rtl.tests.formats.evaluate import evaluate

DEFAULT = PRESETS["DEFAULT"]
CONFIGS = {
    "default": DEFAULT,
    "tiny": PRESETS["TINY"],
    "narrow": DEFAULT.replace(haw=39, mgaw=48, domain_bits=8, second_stage_levels=frozenset({3, 4})),
    "few features": DEFAULT.replace(
        snoop_control=False,
        supervisor_requests=False,
        page_walk_snoop=False,
        rid_pasid=False,
        first_stage_5_level=False,
        first_stage_1g=False,
        second_stage_1g=False,
        pass_through=False,
    ),
    "accessed and dirty": DEFAULT.replace(extended_accessed=True, second_stage_accessed_dirty=True),
    "second stage only": DEFAULT.replace(
        nested=False, first_stage=False, first_stage_5_level=False, first_stage_1g=False, second_stage_2m=False,
        second_stage_1g=False,
    ),
}  # fmt: skip
FIRST_STAGE_ONLY = DEFAULT.replace(
    nested=False, second_stage=False, second_stage_levels=frozenset(), second_stage_2m=False, second_stage_1g=False
)
ENTRIES = 1500


def model_config(cfg: IommuConfig) -> ModelConfig:
    """The model's view of ``cfg``."""
    known = {field.name for field in fields(IommuConfig)}
    return ModelConfig(**{field.name: getattr(cfg, field.name) for field in fields(ModelConfig) if field.name in known})


def expected(decode, entry: int, cfg: IommuConfig) -> str:
    """The condition that the model's ``decode`` reports, or "" for none."""
    try:
        decode(entry, model_config(cfg))
    except TranslationFault as fault:
        return fault.condition
    return ""


def spoil(rng, structure, value: int) -> int:
    """Break ``value`` in one way, or leave it alone."""
    match rng.randrange(4):
        case 0:
            return value ^ 1 << rng.randrange(structure.width())
        case 1:
            place = rng.choice([place for _, place in structure.as_shape()])
            mask = (1 << place.width) - 1 << place.offset
            return value & ~mask | rng.getrandbits(structure.width()) & mask
        case 2:
            return value & ~1
    return value


def verify(rng, structure, cfg: IommuConfig, sane, conditions, decode):
    """Compare the first condition that applies with the model's; ``conditions`` gives an ordered dict of predicates."""
    signal = Signal(structure)
    named = {name: Value.cast(value) for name, value in conditions(signal).items()}
    values = [spoil(rng, structure, structure.const(sane(rng)).as_value().value) for _ in range(ENTRIES)]
    seen = set()
    for value, results in zip(values, evaluate(signal, values, list(named.values())), strict=True):
        first = next((name for name, result in zip(named, results, strict=True) if result), "")
        assert first == expected(decode, value, cfg), hex(value)
        seen.add(first)
    return seen


def page(rng, cfg: IommuConfig) -> int:
    return rng.getrandbits(cfg.page_bits)


@pytest.mark.parametrize("name", CONFIGS)
def test_root_entries(name, rng):
    cfg = CONFIGS[name]
    seen = verify(
        rng,
        RootEntry,
        cfg,
        lambda rng: {"p": 1, "ctp": page(rng, cfg)},
        lambda entry: {"LRT.2": ~entry.present(), "LRT.3": entry.reserved_set(cfg)},
        model.legacy_root,
    )
    for upper in (0, 1):
        seen |= verify(
            rng,
            ScalableRootEntry,
            cfg,
            lambda rng: {"lp": 1, "lctp": page(rng, cfg), "up": 1, "uctp": page(rng, cfg)},
            lambda entry, upper=upper: {
                "SRT.2": ~entry.present(C(upper)),
                "SRT.3": entry.reserved_set(cfg, C(upper)),
            },
            lambda entry, config, upper=upper: model.scalable_root(entry >> 64 * upper & (1 << 64) - 1, config),
        )
    assert seen == {"", "LRT.2", "LRT.3", "SRT.2", "SRT.3"}


@pytest.mark.parametrize("name", CONFIGS)
def test_context_entries(name, rng):
    cfg = CONFIGS[name]

    def legacy(rng):
        levels = max(cfg.second_stage_levels) if rng.randrange(2) else rng.randrange(2, 10)
        return {"p": 1, "tt": rng.randrange(4), "ssptptr": page(rng, cfg), "aw": levels - 2, "ign": rng.randrange(16)}

    def scalable(rng):
        dte = cfg.device_tlb and rng.randrange(2)
        return {
            "p": 1,
            "dte": dte,
            "pre": cfg.page_requests and (dte or not rng.randrange(4)),
            "paside": rng.randrange(2),
            "pdts": rng.randrange(8),
            "pasiddirptr": page(rng, cfg),
            "rid_pasid": rng.getrandbits(rng.randrange(21)) if cfg.rid_pasid else 0,
        }

    seen = verify(
        rng,
        LegacyContextEntry,
        cfg,
        legacy,
        lambda entry: {
            "LCT.2": ~entry.present(),
            "LCT.3": entry.reserved_set(cfg),
            "LCT.4": entry.invalid_programming(cfg),
        },
        lambda entry, config: _without_last_number(model.legacy_context, entry, config),
    )
    seen |= verify(
        rng,
        ScalableContextEntry,
        cfg,
        scalable,
        lambda entry: {
            "SCT.2": ~entry.present(),
            "SCT.3": entry.reserved_set(cfg),
            "SCT.4": entry.invalid_programming(),
        },
        lambda entry, config: _without_last_number(model.scalable_context, entry, config),
    )
    wanted = {"", "LCT.2", "LCT.3", "LCT.4", "SCT.2", "SCT.3"}
    assert wanted <= seen <= wanted | {"SCT.4"}
    assert "SCT.4" in seen or not cfg.rid_pasid


def _without_last_number(decode, entry: int, config: ModelConfig):
    """Report LCT.4.1 as LCT.4: one predicate holds for the whole group, as they share a code."""
    try:
        decode(entry, config)
    except TranslationFault as fault:
        raise TranslationFault(".".join(fault.condition.split(".")[:2])) from None


@pytest.mark.parametrize("name", [*CONFIGS, "first stage only"])
def test_pasid_entries(name, rng):
    cfg = CONFIGS.get(name, FIRST_STAGE_ONLY)

    def directory(rng):
        return {"p": 1, "fpd": rng.randrange(2), "smptblptr": page(rng, cfg)}

    def table(rng):
        return {
            "p": 1,
            "aw": rng.choice([1, 2, 3, rng.randrange(8)]),
            "pgtt": rng.choice([1, 2, 3, 3, 4]),
            "ssptptr": page(rng, cfg) if rng.randrange(2) else 0,
            "did": rng.getrandbits(cfg.domain_bits),
            "pwsnp": rng.randrange(2) & cfg.page_walk_snoop,
            "fspm": rng.choice([0, 0, 1, rng.randrange(4)]),
            "fsptptr": page(rng, cfg) >> rng.randrange(20) if rng.randrange(2) else 0,
            "ign": rng.randrange(4),
        }

    def conditions(entry):
        return {
            "SPT.2": ~entry.present(),
            "SPT.3": entry.reserved_set(cfg),
            "SPT.4.2": entry.mode_unsupported(cfg),
            "SPT.4.1": entry.address_width_unsupported(cfg),
            "SPT.4.3": entry.first_stage_mode_unsupported(cfg),
            "SPT.4.4": entry.first_stage_root_out_of_range(cfg),
        }

    seen = verify(
        rng,
        PasidDirectoryEntry,
        cfg,
        directory,
        lambda entry: {"SPD.2": ~entry.present(), "SPD.3": entry.reserved_set(cfg)},
        model.pasid_directory,
    )
    seen |= verify(rng, PasidEntry, cfg, table, conditions, model.pasid_entry)
    wanted = {"", "SPD.2", "SPD.3", "SPT.2", "SPT.3", "SPT.4.2"}
    assert wanted <= seen
    if name in ("default", "accessed and dirty"):
        # An HAW of 52 reaches above 48-bit guest addresses.
        assert seen == wanted | {"SPT.4.1", "SPT.4.3", "SPT.4.4"}


@pytest.mark.parametrize("structure", [ScalableContextEntry, PasidEntry])
def test_reserved_bits_piece_by_piece(structure, rng):
    """The pieces' reserved bits together are those of the whole entry."""
    cfg = CONFIGS["few features"]
    entry = Signal(structure)
    pieces = [entry.as_value()[start : start + PIECE_BITS] for start in range(0, structure.width(), PIECE_BITS)]
    more = [entry.pgtt] if structure is PasidEntry else []
    checks = [entry.reserved_set(cfg)]
    checks += [structure.reserved_in_piece(cfg, number, piece, *more) for number, piece in enumerate(pieces)]
    values = [1 << bit | pgtt << 6 for bit in range(structure.width()) for pgtt in ((1, 2, 3, 4) if more else (0,))]
    results = evaluate(entry, values, checks)
    assert all(whole == any(parts) for whole, *parts in results)
    assert {tuple(parts) for _, *parts in results} >= {
        tuple(int(number == reserved) for number in range(len(pieces))) for reserved in range(len(pieces))
    }


@pytest.mark.parametrize("level_is_value", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_paging_entries(name, level_is_value, rng):
    cfg = CONFIGS[name]
    reference = model_config(cfg)
    masks = {FirstStageEntry: reference.first_stage_reserved, SecondStageEntry: reference.second_stage_reserved}
    seen = set()
    for structure, reserved in masks.items():
        for level in range(1, 6):
            entry = Signal(structure)
            number = C(level, 3) if level_is_value else level
            values = [1 << bit | page_size << 7 for bit in range(64) for page_size in (0, 1)]
            values += [rng.getrandbits(64) & rng.getrandbits(64) & rng.getrandbits(64) for _ in range(200)]
            checks = [entry.present(), entry.reserved_set(cfg, number), entry.is_leaf(number)]
            for value, (present, is_reserved, leaf) in zip(values, evaluate(entry, values, checks), strict=True):
                large = bool(value >> 7 & 1)
                assert present == bool(value & (1 if structure is FirstStageEntry else 3))
                assert is_reserved == bool(value & reserved[level, large]), (structure, level, hex(value))
                assert leaf == (level == 1 or (large and level < 4))
                seen.add((level, large, is_reserved))
    assert len(seen) >= 16


def test_nested_addresses_beyond_the_guest_width(rng):
    entry = Signal(FirstStageEntry)
    widths = (39, 48, 57)
    values = [rng.getrandbits(64) >> rng.randrange(30) for _ in range(300)]
    results = evaluate(entry, values, [entry.beyond(width) for width in widths])
    wanted = [[(value & (1 << 52) - 0x1000) >> width != 0 for width in widths] for value in values]
    assert [[bool(bit) for bit in row] for row in results] == wanted


def test_fault_codes_and_their_qualification():
    """Every condition of the model has its code here under the same name, and FPD suppresses the same ones."""
    reason = Signal(FaultReason)
    codes = [condition.code for condition in FAULT_CONDITIONS.values()]
    qualified = [row[0] for row in evaluate(reason, codes, [is_qualified(reason)])]
    names = {name: "_".join(name.split(".")[:2]).replace("INT_1", "INTERRUPT_BAD_REQUEST") for name in FAULT_CONDITIONS}
    assert [FaultReason(code).name for code in codes] == [names[name] for name in FAULT_CONDITIONS]
    assert [bool(bit) for bit in qualified] == [condition.qualified for condition in FAULT_CONDITIONS.values()]
