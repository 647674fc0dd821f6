"""The spool: batches on disk while Redis is away."""
