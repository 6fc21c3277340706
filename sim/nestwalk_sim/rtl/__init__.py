"""The unit in Verilator under cocotb: C++ does what happens every cycle, Python sleeps until something has finished.

`nestwalk_sim.rtl.run` is for callers outside a simulation, `nestwalk_sim.rtl.unit` for coroutines inside one.
"""
