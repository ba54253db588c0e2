"""Consistent capture: shard snapshots, streamed from the nodes, checked, opened with the engine, and scanned.

In go a server's shards as its cluster calls describe them; out come records of one instant for each shard.
It never knows what becomes of the records, nor which engine opens a shard: that is handed in.
Decisions: docs/decisions/0090 to 0093.
"""
