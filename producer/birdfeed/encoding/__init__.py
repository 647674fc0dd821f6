"""From event data to the bytes on the wire."""
