"""Send batches to Redis."""
