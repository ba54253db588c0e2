"""The binary files of one snapshot: rows and graphs in, gzip members out, and back.

Nothing here knows a store, a chain or a database. Format: docs/guides/ruvector.md#binary-layouts
"""
