"""Decisions as pure functions: facts and rules in, a decision with its reasons out.

Nothing here reads a clock, a store or a setting, and nothing here does what it decides.
"""
