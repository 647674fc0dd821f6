"""Worker processes: the launcher, its children, the loop that reserves jobs, health pages and shutdown."""
