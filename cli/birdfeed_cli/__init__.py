"""The command line: the only part that may import producer, worker and sandbox."""
