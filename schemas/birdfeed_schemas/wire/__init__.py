"""The wire format of batches, and the names of Redis keys. Old jobs must stay readable."""
