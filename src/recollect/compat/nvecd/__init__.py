"""nvecd's public face: its files, its line protocol, its HTTP API and its command line.

In go nvecd's bytes; out come calls of the embedded database, and nvecd's replies. The rules
of scoring and of events belong to the database; this package translates, and keeps the files.

::

    bytes --lines--> request --parse--> Command --execute--> reply        protocol/ commands/
    Database --view--> sections --encode--> .nvec file                   snapshot/
    .nvec file --verify, decode--> staged collection --switch--> Database
"""
