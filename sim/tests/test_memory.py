"""The simulated memory against a flat array, and its errors."""

import pytest

from nestwalk_sim.memory import PAGE_SIZE, AccessError, ErrorKind, Memory

BASE = 0x7_F000


def test_reads_and_writes_of_any_size_across_pages_match_a_flat_array(rng):
    memory = Memory()
    memory.add_pages(range(BASE, BASE + 4 * PAGE_SIZE, PAGE_SIZE))
    flat = bytearray(4 * PAGE_SIZE)
    for _ in range(2000):
        size = rng.choice((1, 4, 8, 16, 64, 5000))
        offset = rng.randrange(len(flat) - size)
        if rng.random() < 0.5:
            content = rng.randbytes(size)
            memory.write(BASE + offset, content)
            flat[offset : offset + size] = content
        assert memory.read(BASE + offset, size) == flat[offset : offset + size]
    twin = memory.copy()
    memory.write64(BASE, ~twin.read64(BASE) & (1 << 64) - 1)
    assert b"".join(twin.image().values()) == flat


def test_what_does_not_exist_answers_with_an_error_and_stays_untouched():
    memory = Memory({BASE: bytes(PAGE_SIZE)})
    for address, size in ((BASE - 1, 1), (BASE + PAGE_SIZE, 8), (BASE + PAGE_SIZE - 4, 8)):
        with pytest.raises(AccessError, match=f"{address:#x}|{BASE + PAGE_SIZE:#x}"):
            memory.read(address, size)
    with pytest.raises(AccessError):
        memory.write(BASE + PAGE_SIZE - 4, b"12345678")
    assert memory.image() == {BASE: bytes(PAGE_SIZE)}


@pytest.mark.parametrize("image", [{BASE + 8: bytes(PAGE_SIZE)}, {BASE: bytes(PAGE_SIZE - 1)}])
def test_an_image_that_is_no_set_of_pages_is_refused_whole(image):
    memory = Memory({BASE: b"x" * PAGE_SIZE})
    with pytest.raises(ValueError, match="aligned pages of 4096 bytes"):
        memory.load({0: bytes(PAGE_SIZE)} | image)
    assert memory.image() == {BASE: b"x" * PAGE_SIZE}


def test_injected_errors_hit_their_kind_of_access_and_only_their_bytes():
    memory = Memory({BASE: bytes(PAGE_SIZE)})
    memory.inject_error(BASE + 64, 8, ErrorKind.UPDATE)
    memory.inject_error(BASE + 128, 8)
    assert memory.read64(BASE + 64) == 0
    with pytest.raises(AccessError):
        memory.update64(BASE + 64, 0, 1)
    assert memory.update64(BASE + 72, 0, 1)
    for access in (lambda: memory.read(BASE + 120, 16), lambda: memory.update64(BASE + 128, 0, 1)):
        with pytest.raises(AccessError):
            access()
    assert memory.read64(BASE + 120) == 0


def test_an_update_of_a_word_that_changed_writes_nothing():
    memory = Memory({BASE: bytes(PAGE_SIZE)})
    memory.write64(BASE, 7)
    assert not memory.update64(BASE, 6, 9)
    assert memory.read64(BASE) == 7
