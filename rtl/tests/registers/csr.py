"""Register accesses over AXI4-Lite in Amaranth's simulator."""

from nestwalk.registers.table import REGISTERS

__all__ = ["access_read", "access_write", "read", "write"]


async def access_write(ctx, csr, address: int, data: int, strobe: int):
    """Write the strobed bytes of the 8 bytes at ``address``."""
    ctx.set(csr.awaddr, address)
    ctx.set(csr.wdata, data)
    ctx.set(csr.wstrb, strobe)
    ctx.set(csr.awvalid, 1)
    ctx.set(csr.wvalid, 1)
    await ctx.tick().until(csr.awready & csr.wready)
    ctx.set(csr.awvalid, 0)
    ctx.set(csr.wvalid, 0)
    ctx.set(csr.bready, 1)
    (response,) = await ctx.tick().sample(csr.bresp).until(csr.bvalid)
    ctx.set(csr.bready, 0)
    assert response == 0


async def access_read(ctx, csr, address: int) -> int:
    """Read the 8 bytes at ``address``."""
    ctx.set(csr.araddr, address)
    ctx.set(csr.arvalid, 1)
    await ctx.tick().until(csr.arready)
    ctx.set(csr.arvalid, 0)
    ctx.set(csr.rready, 1)
    data, response = await ctx.tick().sample(csr.rdata, csr.rresp).until(csr.rvalid)
    ctx.set(csr.rready, 0)
    assert response == 0
    return data


async def write(ctx, csr, name: str, **fields: int):
    """Write a register: the named fields, zero elsewhere."""
    register = REGISTERS[name]
    value = register.pack(fields)
    shift = register.offset % 8
    strobe = (1 << register.width // 8) - 1
    await access_write(ctx, csr, register.offset, value << 8 * shift, strobe << shift)


async def read(ctx, csr, name: str) -> dict[str, int]:
    """Read a register of at most 64 bits as its fields."""
    register = REGISTERS[name]
    word = await access_read(ctx, csr, register.offset)
    return register.unpack(word >> 8 * (register.offset % 8) & (1 << register.width) - 1)
