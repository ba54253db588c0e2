"""Which snapshots exist, by id, name and time; committing them is the only commit point."""
