"""Shared by several commands: output, access to Redis and Tinybird, options, time spans."""
