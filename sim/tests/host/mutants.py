"""Historical bugs (host-software reference, section 5) as switches that put them back into the driver."""

from typing import Any

from nestwalk_sim.host import iommu_domain
from nestwalk_sim.host.aux_domain import AuxDomain
from nestwalk_sim.host.ioasid import IoasidAllocator
from nestwalk_sim.host.vtd import cache_tags, contexts, invalidate, pasid, sva, svm, unit
from nestwalk_sim.host.vtd.cache_tags import CacheTags, Stage
from nestwalk_sim.host.vtd.descriptors import PasidDeviceTlbInvalidate, PasidIotlbInvalidate
from nestwalk_sim.host.vtd.invalidate import Granularity
from nestwalk_sim.host.vtd.qi import InvalidationQueue
from nestwalk_sim.host.vtd.tables import PasidTable, write_entry
from sim.tests.host.bringup import HOST_PASID
from sim.tests.host.bugs import Bug, Patch, nothing
from sim.tests.host.mutants_requests import REQUEST_BUGS

__all__ = ["BUGS"]


def _by_pasid_instead_of_domain(patch: Patch) -> None:
    patch.setattr(pasid, "IotlbInvalidate", lambda domain_id: PasidIotlbInvalidate(domain_id, HOST_PASID))


def _reference_leak(patch: Patch) -> None:
    put = IoasidAllocator.put
    patch.setattr(IoasidAllocator, "put", lambda self, each, who: None if who == svm.HOLDER else put(self, each, who))


def _zeroed_while_present(patch: Patch) -> None:
    async def hide(table: PasidTable, number: int, *, disable_faults: bool = False) -> None:
        address = await table.make(number)
        await write_entry(table.memory, address, (0,) * 8)

    patch.setattr(PasidTable, "hide", hide)


def _context_zeroed_while_present(patch: Patch) -> None:
    patch.setattr(contexts, "PRESENT", (1 << 64) - 1)


def _overwritten_while_present(patch: Patch) -> None:
    tear_down = pasid.tear_down

    async def sparing(iommu, device, number, trace, **options):
        if trace.recipe != "R4":
            return await tear_down(iommu, device, number, trace, **options)
        iommu.state_of(device).entries.pop(number)
        return None

    async def copy(table: PasidTable, number: int, entry) -> None:
        await write_entry(table.memory, await table.make(number), entry.words())

    patch.setattr(pasid, "tear_down", sparing)
    patch.setattr(PasidTable, "install", copy)


def _children_forgotten(patch: Patch) -> None:
    every = CacheTags.__iter__
    patch.setattr(CacheTags, "__iter__", lambda tags: (tag for tag in every(tags) if tag.stage is not Stage.NESTED))


def _second_stage_by_pasid(patch: Patch) -> None:
    def flush(tags, tag, start, mask, leaf):
        return PasidIotlbInvalidate(tag.domain_id, tag.pasid, start, mask, leaf)

    patch.setattr(CacheTags, "_unit_flush", flush)


def _pasid_message_for_untagged(patch: Patch) -> None:
    patch.setattr(
        cache_tags, "DeviceTlbInvalidate", lambda source_id, *where: PasidDeviceTlbInvalidate(source_id, 0, *where)
    )


def _one_page_for_a_whole_pasid(patch: Patch) -> None:
    flush = cache_tags.device_tlb_flush

    def small(iommu, device, number, start=0, mask=0):
        return flush(iommu, device, number, start, 0 if mask > 52 else mask)

    patch.setattr(invalidate, "device_tlb_flush", small)


def _unmasked_address(patch: Patch) -> None:
    def words(self: PasidIotlbInvalidate):
        head = 6 | self.domain_id << 16 | self.pasid << 32
        if self.address is None:
            return head | 2 << 4, 0, 0, 0
        return head | 3 << 4, self.address + 0x800 | self.hint << 6 | self.address_mask, 0, 0

    patch.setattr(PasidIotlbInvalidate, "words", words)


def _size_without_alignment(patch: Patch) -> None:
    def cover(address: int, size: int) -> tuple[int, int]:
        mask = ((size + 4095) // 4096 - 1).bit_length()
        return address & -4096 << mask, mask

    patch.setattr(cache_tags, "aligned_cover", cover)
    patch.setattr(invalidate, "aligned_cover", cover)


def _primary_devices_only(patch: Patch) -> None:
    flush = cache_tags.device_tlb_flush

    def primary(iommu, device, number, *where):
        return flush(iommu, device, number, *where) if number == cache_tags.RID_PASID else []

    patch.setattr(cache_tags, "device_tlb_flush", primary)


def _leaf_hint_always(patch: Patch) -> None:
    flush = CacheTags.flush

    async def hinted(tags, address, size, trace, *, leaf=False, mapped=False) -> None:
        await flush(tags, address, size, trace, leaf=True, mapped=mapped)

    patch.setattr(CacheTags, "flush", hinted)


def _silent_success(patch: Patch) -> None:
    answer = invalidate.sva_invalidate

    async def silent(domain, device, info) -> None:
        if info.granularity != Granularity.DOMAIN:
            await answer(domain, device, info)

    patch.setattr(invalidate, "sva_invalidate", silent)


def _absent_device_asked_for_ever(patch: Patch) -> None:
    patch.setattr(unit.Iommu, "give_up_on", lambda iommu, source_id: None)
    attempt = InvalidationQueue._attempt

    async def stubborn(queue, descriptors, *rest) -> None:
        while await attempt(queue, descriptors, *rest) is not None:
            pass

    patch.setattr(InvalidationQueue, "_attempt", stubborn)


def _abort_scan_misses_waits(patch: Patch) -> None:
    async def blind(queue: InvalidationQueue) -> None:
        await queue._regs.write("FSTS", ITE=1)

    patch.setattr(InvalidationQueue, "_recover_from_timeout", blind)


def _no_device_flush_in_caching_mode(patch: Patch) -> None:
    flush = cache_tags.device_tlb_flush

    def skipping(iommu, *where):
        return [] if iommu.capabilities["CM"] else flush(iommu, *where)

    patch.setattr(pasid, "device_tlb_flush", skipping)


def _no_flush_of_new_entries(patch: Patch) -> None:
    patch.setattr(unit.Iommu, "settle_new_entry", nothing)


def _device_flush_in_the_dark(patch: Patch) -> None:
    patch.setattr(unit.Iommu, "translating", property(lambda iommu: True, lambda iommu, value: None), raising=False)


def _no_undo(patch: Patch) -> None:
    class Forgetful(svm.AsyncExitStack):
        async def __aexit__(self, *_exception: object) -> bool:
            return False

    patch.setattr(svm, "AsyncExitStack", Forgetful)


def _failed_replace_forgets_the_old(patch: Patch) -> None:
    async def replace(iommu, device, number, entry, what, trace, handler):
        old = await pasid.tear_down(iommu, device, number, trace)
        await pasid.install(iommu, device, number, entry, what, trace, handler)
        return old

    patch.setattr(iommu_domain, "replace", replace)


def _process_dropped_with_its_first_user(patch: Patch) -> None:
    patch.setattr(sva.SvaHandle, "users", property(lambda handle: 1, lambda handle, value: None), raising=False)


def _surplus_unbind(patch: Patch) -> None:
    patch.setattr(svm.SvmDev, "users", property(lambda record: 1, lambda record, value: None), raising=False)


def _work_goes_on_after_unbind(patch: Patch) -> None:
    late: list[Any] = []
    announce = IoasidAllocator.announce_unbound
    put = IoasidAllocator.put
    patch.setattr(IoasidAllocator, "announce_unbound", lambda ids, ioasid: late.append(ioasid))

    def putting(ids: IoasidAllocator, ioasid, holder: str) -> None:
        if holder == svm.HOLDER and ioasid in late:
            announce(ids, ioasid)
        put(ids, ioasid, holder)

    patch.setattr(IoasidAllocator, "put", putting)


def _tag_not_assigned(patch: Patch) -> None:
    patch.setattr(CacheTags, "assign", lambda tags, tag: None)


def _stale_walker_view(patch: Patch) -> None:
    async def install(table: PasidTable, number: int, entry) -> None:
        """The write stays in the processor's cache: nobody flushes it."""

    patch.setattr(PasidTable, "install", install)


def _unbalanced_auxiliary_lists(patch: Patch) -> None:
    async def detach(aux: AuxDomain, parent) -> bool:
        if aux.pasid is not None:
            await aux.domain.detach(parent, aux.pasid)
        aux.users.pop(parent, None)
        return True

    patch.setattr(AuxDomain, "detach", detach)


def _auxiliary_pasid_remembered(patch: Patch) -> None:
    def put(aux: AuxDomain) -> None:
        if not aux.users and aux.pasid is not None and aux.pasid in aux.domain.iommu.ioasids.allocated:
            aux.domain.iommu.ioasids.free(aux.domain.owner, aux.pasid)

    patch.setattr(AuxDomain, "_put_pasid", put)


def _tables_edited_without_invalidation(patch: Patch) -> None:
    patch.setattr(CacheTags, "flush", nothing)


BUGS = [
    *REQUEST_BUGS,
    Bug(12, "nested entry flushed by PASID", _by_pasid_instead_of_domain, "R3"),
    Bug(13, "reference to the PASID leaks", _reference_leak, "I7"),
    Bug(14, "entry zeroed while present", _zeroed_while_present, "R3"),
    Bug(15, "context entry zeroed while present", _context_zeroed_while_present, "R15"),
    Bug(16, "live entry overwritten", _overwritten_while_present, "R4"),
    Bug(17, "entry not visible to the walker", _stale_walker_view, "DmaFault"),
    Bug(18, "second stage flushed for the parent only", _children_forgotten, "R7"),
    Bug(19, "second stage flushed by PASID", _second_stage_by_pasid, "R7"),
    Bug(20, "PASID message for untagged device TLB", _pasid_message_for_untagged, "R7"),
    Bug(21, "one page for a whole PASID", _one_page_for_a_whole_pasid, "I3"),
    Bug(22, "address unmasked in the descriptor", _unmasked_address, "IommuError: EINVAL"),
    Bug(23, "size without alignment", _size_without_alignment, "I2"),
    Bug(24, "primary devices flushed only", _primary_devices_only, "R7"),
    Bug(25, "unbalanced lists of auxiliary domains", _unbalanced_auxiliary_lists, "I7"),
    Bug(26, "auxiliary PASID remembered", _auxiliary_pasid_remembered, "I7"),
    Bug(27, "tables freed after a leaf-only flush", _leaf_hint_always, "R7"),
    Bug(28, "unsupported granularity succeeds silently", _silent_success, "I2"),
    Bug(29, "absent device asked for ever", _absent_device_asked_for_ever, "AssertionError: I6"),
    Bug(30, "waits missed when a time-out aborts them", _abort_scan_misses_waits, "IommuError: ETIMEDOUT"),
    Bug(31, "no device-TLB flush in caching mode", _no_device_flush_in_caching_mode, "R3", True),
    Bug(32, "new entries not flushed in caching mode", _no_flush_of_new_entries, "R2", True),
    Bug(33, "device-TLB flush while translation is off", _device_flush_in_the_dark, "R14"),
    Bug(35, "failed bind not undone", _no_undo, "I12"),
    Bug(36, "failed replace loses the old domain", _failed_replace_forgets_the_old, "I12"),
    Bug(37, "process dropped with its first user", _process_dropped_with_its_first_user, "DmaFault"),
    Bug(38, "surplus unbind", _surplus_unbind, "DMA to"),
    Bug(39, "work goes on after unbind", _work_goes_on_after_unbind, "S12"),
    Bug(41, "cache tag not assigned", _tag_not_assigned, "R7"),
    Bug(42, "tables edited without an invalidation", _tables_edited_without_invalidation, "R7"),
]
"""Rows that the stack can express. Not among them: 10 and 34 (the device's own PRI and reset registers), 40 (a record
that Python makes first anyway)."""
