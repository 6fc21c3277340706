"""Hardware around the unit that workloads need in simulation."""
