"""Bit positions of every structure, typed again from the reference as (name, high, low); all others are reserved."""

import pytest

from nestwalk.formats import context, descriptor, fault, first_stage, page_request, pasid, root, second_stage

HEADER = [("type", 3, 0), ("type_high", 11, 9)]
RANGE = [("am", 69, 64), ("ih", 70, 70), ("addr", 127, 76)]

LAYOUTS = {
    root.RootEntry: (128, [("p", 0, 0), ("ctp", 63, 12)]),
    root.ScalableRootEntry: (128, [("lp", 0, 0), ("lctp", 63, 12), ("up", 64, 64), ("uctp", 127, 76)]),
    context.LegacyContextEntry: (
        128,
        [
            ("p", 0, 0),
            ("fpd", 1, 1),
            ("tt", 3, 2),
            ("ssptptr", 63, 12),
            ("aw", 66, 64),
            ("ign", 70, 67),
            ("did", 87, 72),
        ],
    ),
    context.ScalableContextEntry: (
        256,
        [
            *[
                ("p", 0, 0),
                ("fpd", 1, 1),
                ("dte", 2, 2),
                ("paside", 3, 3),
                ("pre", 4, 4),
                ("hpte", 5, 5),
                ("eptr", 6, 6),
            ],
            *[("pdts", 11, 9), ("pasiddirptr", 63, 12), ("rid_pasid", 83, 64), ("rid_priv", 84, 84)],
        ],
    ),
    pasid.PasidDirectoryEntry: (64, [("p", 0, 0), ("fpd", 1, 1), ("smptblptr", 63, 12)]),
    pasid.PasidEntry: (
        512,
        [
            *[("p", 0, 0), ("fpd", 1, 1), ("aw", 4, 2), ("pgtt", 8, 6), ("ssade", 9, 9), ("ssptptr", 63, 12)],
            *[
                ("did", 79, 64),
                ("pwsnp", 87, 87),
                ("pgsnp", 88, 88),
                ("cd", 89, 89),
                ("emte", 90, 90),
                ("pat", 127, 96),
            ],
            *[("sre", 128, 128), ("fspm", 131, 130), ("wpe", 132, 132), ("ign", 134, 133), ("eafe", 135, 135)],
            *[
                ("fsptptr", 191, 140),
                ("hptsz", 257, 256),
                ("hptpfd", 258, 258),
                ("hptptr", 319, 268),
                ("hptdid", 335, 320),
            ],
        ],
    ),
    first_stage.FirstStageEntry: (
        64,
        [
            *[
                ("p", 0, 0),
                ("rw", 1, 1),
                ("us", 2, 2),
                ("pwt", 3, 3),
                ("pcd", 4, 4),
                ("a", 5, 5),
                ("d", 6, 6),
                ("ps", 7, 7),
            ],
            *[("g", 8, 8), ("ign0", 9, 9), ("ea", 10, 10), ("ign1", 11, 11), ("address", 51, 12), ("ign2", 63, 52)],
        ],
    ),
    second_stage.SecondStageEntry: (
        64,
        [
            *[("r", 0, 0), ("w", 1, 1), ("ign0", 2, 2), ("emt", 5, 3), ("ipat", 6, 6), ("ps", 7, 7), ("a", 8, 8)],
            *[("d", 9, 9), ("ign1", 10, 10), ("snp", 11, 11), ("address", 51, 12), ("ign2", 60, 52)],
            *[("ir", 61, 61), ("iw", 62, 62), ("ign3", 63, 63)],
        ],
    ),
    fault.FaultRecord: (
        128,
        [
            *[("fi", 63, 12), ("sid", 79, 64), ("t2", 92, 92), ("priv", 93, 93), ("exe", 94, 94), ("pp", 95, 95)],
            *[("fr", 103, 96), ("pv", 123, 104), ("at", 125, 124), ("t1", 126, 126), ("f", 127, 127)],
        ],
    ),
    descriptor.ContextCacheInvalidate: (
        128,
        [*HEADER, ("g", 5, 4), ("did", 31, 16), ("sid", 47, 32), ("fm", 49, 48)],
    ),
    descriptor.IotlbInvalidate: (
        128,
        [*HEADER, ("g", 5, 4), ("dw", 6, 6), ("dr", 7, 7), ("did", 31, 16), *RANGE],
    ),
    descriptor.DeviceTlbInvalidate: (
        128,
        [
            *[*HEADER, ("pfsid_low", 15, 12), ("mip", 20, 16), ("sid", 47, 32), ("pfsid_high", 63, 52)],
            *[("s", 64, 64), ("addr", 127, 76)],
        ],
    ),
    descriptor.InterruptEntryInvalidate: (128, [*HEADER, ("g", 4, 4), ("im", 31, 27), ("iidx", 47, 32)]),
    descriptor.InvalidationWait: (
        128,
        [
            *[*HEADER, ("if_", 4, 4), ("sw", 5, 5), ("fn", 6, 6), ("pd", 7, 7)],
            *[("status_data", 63, 32), ("status_address", 127, 66)],
        ],
    ),
    descriptor.PasidIotlbInvalidate: (256, [*HEADER, ("g", 5, 4), ("did", 31, 16), ("pasid", 51, 32), *RANGE]),
    descriptor.PasidCacheInvalidate: (256, [*HEADER, ("g", 5, 4), ("did", 31, 16), ("pasid", 51, 32)]),
    descriptor.PasidDeviceTlbInvalidate: (
        256,
        [
            *[
                *HEADER,
                ("mip", 8, 4),
                ("pfsid_low", 15, 12),
                ("sid", 31, 16),
                ("pasid", 51, 32),
                ("pfsid_high", 63, 52),
            ],
            *[("gi", 64, 64), ("s", 75, 75), ("addr", 127, 76)],
        ],
    ),
    descriptor.PageGroupResponse: (
        256,
        [*HEADER, ("pp", 4, 4), ("rc", 15, 12), ("rid", 31, 16), ("pasid", 51, 32), ("ign", 66, 66), ("prgi", 75, 67)],
    ),
    descriptor.HostPermissionInvalidate: (
        256,
        [*HEADER, ("g", 5, 4), ("hptdid", 31, 16), ("am", 69, 64), ("ih", 71, 70), ("addr", 127, 76)],
    ),
    page_request.PageRequestDescriptor: (
        256,
        [
            *[("type", 7, 0), ("pp", 8, 8), ("rid", 31, 16), ("pasid", 51, 32), ("exr", 52, 52), ("pmr", 53, 53)],
            *[("rdr", 64, 64), ("wrr", 65, 65), ("lpig", 66, 66), ("prgi", 75, 67), ("address", 127, 76)],
        ],
    ),
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_fields_are_where_the_specification_has_them(structure):
    width, fields = LAYOUTS[structure]
    layout = structure.as_shape()
    named = {name: (place.offset + place.width - 1, place.offset) for name, place in layout}
    reserved = {name: bits for name, bits in named.items() if name.startswith("rsvd")}
    assert {name: bits for name, bits in named.items() if name not in reserved} == {
        name: (high, low) for name, high, low in fields
    }
    assert layout.size == width
    assert sum(high - low + 1 for high, low in named.values()) == width, "some bits have no name, or two"


def test_every_descriptor_type_has_a_format():
    assert [(kind.value, structure) for kind, structure in descriptor.DESCRIPTORS.items()] == list(
        enumerate([structure for structure in LAYOUTS if structure.__module__ == descriptor.__name__], start=1)
    )
