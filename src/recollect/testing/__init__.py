"""What Recollect's own tests use and adapter authors can: fault injection, damage, contract suites.

`faults` makes any store fail at a chosen operation, `damage` harms files, `store_contract` holds
the tests that every store must pass. Nothing here is imported by the rest of the package.
"""
