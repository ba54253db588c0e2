"""Checkpoints: a frozen database in, a snapshot in its own repository out; and back.

Vectors, events and state become collections of records like those of any engine, so that
they are stored, verified, compacted and expired by the code that backups use.
"""
