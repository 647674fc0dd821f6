"""Put batches into Redis."""
