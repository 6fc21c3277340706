"""Defects of root, context and PASID structures, and of the request's address."""

from ...memory import PAGE_SIZE
from ...model import Access, Mode
from ..target import INTERRUPT_RANGE, Target
from .catalogue import (
    beyond_guest_width,
    beyond_haw,
    change_context,
    change_directory,
    change_legacy_context,
    change_pasid,
    defect,
    is_first,
    is_legacy,
    is_legacy_pass_through,
    is_legacy_second,
    is_legacy_small,
    is_narrow_nested,
    is_only_second,
    is_paged_small,
    is_pass_through,
    is_scalable,
    is_second,
    root_entry,
    scalable_tables,
    set_bit,
)


@defect("SRT.2", is_scalable)
@defect("LRT.2", is_legacy)
def _root_not_present(target: Target) -> None:
    target.memory.write64(root_entry(target), target.random.getrandbits(64) & ~1)


@defect("SRT.3", is_scalable)
@defect("LRT.3", is_legacy)
def _root_reserved(target: Target) -> None:
    high = [] if target.scalable else list(range(64, 128))
    set_bit(target, root_entry(target), [*range(1, 12), *beyond_haw(target), *high])


@defect("SCT.1", is_scalable)
@defect("LCT.1", is_legacy)
def _no_context_table(target: Target) -> None:
    target.memory.write64(root_entry(target), target.space.unused() | 1)


@defect("SCT.2", is_scalable)
def _context_not_present(target: Target) -> None:
    change_context(target, P=0)


@defect("SCT.3", is_scalable)
def _context_reserved(target: Target) -> None:
    config = target.config
    capabilities = {
        2: config.device_tlb,
        3: config.pasid,
        4: config.page_requests,
        5: config.host_permission_tables,
        6: config.pasid_in_translated,
        84: config.rid_priv,
    }
    bits = [7, 8, *beyond_haw(target), *range(85, 256)]
    bits += [bit for bit, announced in capabilities.items() if not announced]
    set_bit(target, scalable_tables(target).context_entry_address(target.source_id), bits)


@defect("SCT.4.1", is_scalable)
def _page_requests_without_device_tlb(target: Target) -> None:
    change_context(target, DTE=0, PRE=1)


@defect("SCT.4.2", is_scalable)
def _rid_pasid_too_large(target: Target) -> None:
    change_context(target, PDTS=0, RID_PASID=target.random.randrange(1 << 13, 1 << 20))


@defect("SCT.4.3", is_scalable)
def _translated_pasid_without_pasid(target: Target) -> None:
    change_context(target, EPTR=1, PASIDE=0)


@defect("SCT.6", is_scalable, pasid=True)
def _pasid_disabled(target: Target) -> None:
    change_context(target, PASIDE=0)


@defect("SCT.7", is_scalable, pasid=True)
def _pasid_too_large(target: Target) -> None:
    change_context(target, PDTS=0, RID_PASID=0)
    target.request["pasid"] = target.random.randrange(1 << 13, 1 << target.config.pasid_bits)


@defect("SCT.9", is_scalable, pasid=True)
def _pasid_of_requests_without(target: Target) -> None:
    target.request["pasid"] = target.rid_pasid


@defect("SGN.10", is_scalable, pasid=True)
def _pasid_beyond_limit(target: Target) -> None:
    target.request["pasid"] = target.random.randrange(1 << target.config.pasid_bits, 1 << 20)


@defect("LCT.2", is_legacy)
def _legacy_context_not_present(target: Target) -> None:
    change_legacy_context(target, P=0)


@defect("LCT.3", is_legacy)
def _legacy_context_reserved(target: Target) -> None:
    assert target.legacy is not None
    domain = range(72 + target.config.domain_bits, 88)
    bits = [*range(4, 12), *beyond_haw(target), 71, *domain, *range(88, 128)]
    set_bit(target, target.legacy.context_entry_address(target.source_id), bits)


@defect("LCT.4.1", is_legacy)
def _legacy_width_unsupported(target: Target) -> None:
    supported = target.config.second_stage_levels
    if target.shape.mode is Mode.PASS_THROUGH:
        supported = {max(supported)}
    change_legacy_context(target, AW=target.random.choice([aw for aw in range(8) if aw + 2 not in supported]))


@defect("LCT.4.2", is_legacy)
def _translation_type_unsupported(target: Target) -> None:
    config = target.config
    types = [3] + [1] * (not config.device_tlb) + [2] * (not config.pass_through)
    change_legacy_context(target, TT=target.random.choice(types))


@defect("SPD.1", is_scalable)
def _no_pasid_directory(target: Target) -> None:
    change_context(target, PASIDDIRPTR=target.space.unused(32))


@defect("SPD.2", is_scalable)
def _directory_not_present(target: Target) -> None:
    change_directory(target, P=0)


@defect("SPD.3", is_scalable)
def _directory_reserved(target: Target) -> None:
    place = scalable_tables(target).directory_entry_address(target.source_id, target.pasid)
    set_bit(target, place, [*range(2, 12), *beyond_haw(target)])


@defect("SPT.1", is_scalable)
def _no_pasid_table(target: Target) -> None:
    change_directory(target, SMPTBLPTR=target.space.unused())


@defect("SPT.2", is_scalable)
def _pasid_not_present(target: Target) -> None:
    change_pasid(target, P=0)


@defect("SPT.3", is_scalable)
def _pasid_reserved(target: Target) -> None:
    config = target.config
    always = [5, 10, 11, *range(80, 87), *range(91, 96), 129, *range(136, 140), *range(192, 256), *range(336, 512)]
    bits = always + beyond_haw(target) + beyond_haw(target, 2) + list(range(64 + config.domain_bits, 80))
    first, second = is_first(target.shape), is_second(target.shape)
    reserved_when = {
        9: second and not config.second_stage_accessed_dirty,
        90: second and not config.memory_type,
        135: first and not config.extended_accessed,
        128: not config.supervisor_requests,
        87: not config.page_walk_snoop,
        88: not config.snoop_control,
    }
    bits += [bit for bit, reserved in reserved_when.items() if reserved]
    bits += [89, *range(96, 128)] * (not config.memory_type)
    bits += range(256, 336) if not config.host_permission_tables else range(259, 268)
    set_bit(target, scalable_tables(target).pasid_entry_address(target.source_id, target.pasid), bits)


@defect("SPT.4.1", is_second)
def _width_unsupported(target: Target) -> None:
    supported = target.config.second_stage_levels
    change_pasid(target, AW=target.random.choice([aw for aw in range(8) if aw + 2 not in supported]))


@defect("SPT.4.2", is_scalable)
def _type_unsupported(target: Target) -> None:
    # The types that exist but are not announced would need other fields to be sane.
    change_pasid(target, PGTT=target.random.choice((0, 5, 6, 7)), SSADE=0, EMTE=0, EAFE=0)


@defect("SPT.4.3", is_first)
def _paging_mode_unsupported(target: Target) -> None:
    change_pasid(target, FSPM=target.random.choice([2, 3] + [1] * (not target.config.first_stage_5_level)))


@defect("SPT.4.4", is_narrow_nested)
def _first_stage_root_too_large(target: Target) -> None:
    change_pasid(target, FSPTPTR=beyond_guest_width(target))


@defect("RTA.5", is_scalable, pasid=True)
@defect("SPT.5", is_scalable, pasid=True)
def _execute(target: Target) -> None:
    target.request |= {"execute": True, "access": Access.READ}


@defect("SPT.6", is_scalable, pasid=True)
def _supervisor_disabled(target: Target) -> None:
    target.request["privileged"] = True
    change_pasid(target, SRE=0)


@defect("SGN.1", is_first)
def _not_canonical(target: Target) -> None:
    assert target.first is not None
    top = 9 * target.first.levels + 11
    target.request["address"] ^= 1 << target.random.randrange(top, 64)


@defect("SGN.5", is_only_second)
@defect("LGN.1.1", is_legacy_second)
def _beyond_second_stage(target: Target) -> None:
    width = target.config.guest_width(target.shape.second_levels)
    target.request["address"] |= 1 << target.random.randrange(width, 64)


@defect("SGN.4.2", is_pass_through)
@defect("LGN.1.3", is_legacy_pass_through)
def _beyond_host(target: Target) -> None:
    target.request["address"] |= 1 << target.random.randrange(target.config.haw, 64)


@defect("SGN.8.1", is_paged_small)
@defect("LGN.4", is_legacy_small)
def _output_in_interrupt_range(target: Target) -> None:
    page = INTERRUPT_RANGE + target.random.randrange(256) * PAGE_SIZE
    if target.second is not None:
        target.second.set_fields(target.second_path(target.second_inputs()[-1])[-1], ADDR=page)
    elif target.first is not None:
        target.first.set_fields(target.first_path()[-1], ADDR=page)


@defect("SGN.8.1", is_pass_through, pasid=True)
def _interrupt_range_with_pasid(target: Target) -> None:
    target.request["address"] = INTERRUPT_RANGE + target.random.randrange(1 << 20)


@defect("INT.1", lambda shape: True, pasid=False)
def _no_interrupt(target: Target) -> None:
    access = target.random.choice((Access.READ, Access.WRITE, Access.ATOMIC))
    target.request |= {"address": INTERRUPT_RANGE + target.random.randrange(1 << 20), "access": access}
    target.request["one_dword"] = access is not Access.WRITE and target.request["one_dword"]
