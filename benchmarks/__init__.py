"""Every measured claim of the documentation, one script each; `docs/benchmarks.md` holds what was seen."""
