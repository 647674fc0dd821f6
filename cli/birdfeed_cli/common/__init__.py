"""What several commands share: the console, access to Redis, time spans."""
