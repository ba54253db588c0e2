"""Arcaneum's backup and restore scripts, as `recollect dump` and `recollect load`.

A dump is a directory of native Qdrant snapshots with a manifest: `dump` writes one over HTTP (or
through the container's file system), `load` restores one, its own or one that the scripts wrote.
Settings, directory names and `manifest.txt` are those of the scripts.
"""
