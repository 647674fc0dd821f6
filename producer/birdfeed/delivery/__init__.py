"""From the buffer to Redis or the spool, in a thread of its own."""
