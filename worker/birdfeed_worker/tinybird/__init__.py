"""The Tinybird API: its client, what each answer means, and look-ups of stored events."""
