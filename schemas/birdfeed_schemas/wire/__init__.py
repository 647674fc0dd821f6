"""The wire: how a batch of events is written, and the names of Redis keys. Old jobs must stay readable."""
