"""Sealed, sorted runs of changes in a repository: compare, merge, write, read, compact.

A full backup is a run of upserts, an incremental a run of what changed; a collection in a
snapshot is a few runs, and for each record the newest run that has it wins. Nothing here
knows an engine or a snapshot's place in the catalog.
"""
