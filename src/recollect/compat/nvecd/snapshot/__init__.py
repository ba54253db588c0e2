"""nvecd snapshot files, format v1: bytes to columns and columns to bytes.

Columns in, a file out, and the other way round; nothing here knows a database or a protocol. A file
is taken whole or not at all. Format: docs/reference/nvecd.md#snapshot-files
"""
