"""The command line: it stands above producer, worker and sandbox, and is the only part that may import them all."""
