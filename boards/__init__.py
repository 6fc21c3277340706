"""FPGA boards, their demo top, and out-of-context synthesis."""
