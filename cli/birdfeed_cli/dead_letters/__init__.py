"""`birdfeed dead ...`: list, replay, export and delete dead letters."""
