"""The workers: they take jobs from Redis, price the events, write them to Tinybird, and keep what failed."""
