"""Statehouse's face: its gRPC API, environment and JSON snapshots, over the embedded database.

In come requests of Statehouse's clients, out go the documented replies and status codes. It
translates and nothing else; see docs/reference/statehouse.md.
"""
