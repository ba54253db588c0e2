"""Content-addressed objects in a byte store: bytes in, digest out.

Knows names, digests, leases and garbage; never sees a vector, a record or a schema.
"""
