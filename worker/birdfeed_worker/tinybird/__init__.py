"""The Tinybird API: its client, what each answer means, and lookups of what is already stored."""
