"""nvecd's own write-ahead log, read and written as nvecd does, so that a server can be replaced in place.

Format: docs/reference/nvecd.md#write-ahead-log
"""
