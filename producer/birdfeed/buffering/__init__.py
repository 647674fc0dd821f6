"""Events that wait in memory."""
