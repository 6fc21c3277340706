"""The story that `nestwalk demo` tells: two guests share a device, on any engine, every answer checked against the
golden model.
"""
