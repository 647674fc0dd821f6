"""Deliver events from the buffer to Redis or the spool, in the flusher's thread."""
