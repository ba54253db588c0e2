"""The line protocol: bytes to typed commands, results to bytes. No socket, no database.

Protocol: docs/reference/nvecd.md#the-line-protocol
"""
