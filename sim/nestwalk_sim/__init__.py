"""Everything around the hardware: golden model, simulated memory, host stack, replay, reports, command line."""
