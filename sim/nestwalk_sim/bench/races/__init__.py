"""Invalidation races: table entries that change, and are invalidated, at every moment of a walk."""
