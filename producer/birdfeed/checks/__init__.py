"""What would be sent from here, where to, and whether it can arrive: `birdfeed.check()`."""
