"""From request bodies to typed rows, as Tinybird does it."""
