"""Qdrant servers as a source and a target: records over gRPC, everything else over REST.

Records travel as raw protobuf messages, straight between NumPy buffers and the wire. It never
knows where records go to or come from. Decisions: docs/decisions/0020 to 0023.
"""
