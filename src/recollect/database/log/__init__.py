"""The commit log: frames in, durable bytes out; and back, checked, up to any commit.

It knows frames, segments and files, and of a commit only its number, its time and its bytes.
"""
