"""The buffer: events that wait in memory."""
