"""nvecd's HTTP API, over the same face as the line protocol.

Protocol: docs/reference/nvecd.md#http
"""
