"""The real crate's own format, two files a snapshot: for moving in and out, not for working with."""
