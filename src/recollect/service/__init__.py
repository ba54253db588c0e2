"""What runs for long: the database behind its network faces.

In go options; out come faces that answer, checkpoints and archives on time, and an orderly end.
"""
