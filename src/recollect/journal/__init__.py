"""Journals in a repository: sealed ranges of an ordered stream of changes, by position.

In go bytes with the range of positions that they cover; out come ranges, in order, and the gaps between
them. What the bytes say is their writer's business.
"""
