"""Commands that show settings and set up Tinybird."""
