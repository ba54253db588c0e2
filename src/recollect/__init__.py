"""Backup, verification and point-in-time recovery for vector databases.

The straight path of a record, and the package that owns each step::

    Source --scan--> Records --diff--> Changes --seal--> Segment
    engines          values            segments          codec

        --put--> Object --list--> Snapshot --commit--> Catalog
                 repository       values               catalog

A restore walks the same line backwards. Only a verb's module in
`recollect.operations` knows the whole line.
"""

__version__ = "0.1.0"
