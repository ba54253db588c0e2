"""Qdrant Edge shards: the real Qdrant engine in this process, one collection per directory."""
