"""Check what this process would send, where to, and whether it can get there: `birdfeed.check()`."""
