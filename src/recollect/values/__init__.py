"""What travels: keys, schemas, columnar batches, digests, fingerprints, snapshots, events.

Nothing here does I/O or knows an engine, a store or a file format.
"""
