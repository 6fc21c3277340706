"""The driver of the unit: registers, tables, page tables, invalidation queue, faults, and the recipes that use them."""
