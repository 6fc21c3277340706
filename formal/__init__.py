"""Proofs: one specification per block, its depth table and its runner."""
