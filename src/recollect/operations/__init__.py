"""The verbs, one module each: ports and options in, events out, a result back.

A verb prints nothing, reads no settings and no environment. Destructive verbs are two
functions: `plan`, which only reads, and `apply`.
"""
