"""The command line: one module per command, each a thin translation onto a verb.

`main` holds the only handler of `RecollectError`, `output` all rendering; commands
do neither, and nothing below this package prints.
"""
