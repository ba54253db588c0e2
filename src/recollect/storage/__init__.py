"""Bytes at keys: one port (`base`), one module per store, and wrappers around any of them.

Knows nothing of what the bytes mean.
"""
