"""Values to bytes and back: vector columns, segments, snapshots.

Pure functions: equal values give equal bytes, bytes come in and go out as arguments, and nothing
here opens a file, a socket or a repository. Damaged bytes raise IntegrityError, bytes of a newer
format raise FormatVersionError; neither is ever a guess. Format: docs/format.md
"""
