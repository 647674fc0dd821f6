"""Commands that show what the workers do."""
