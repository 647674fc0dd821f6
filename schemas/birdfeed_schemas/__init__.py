"""The words all sides of birdfeed share; imports nothing of ours, and nothing heavy by itself."""
