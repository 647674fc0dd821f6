"""Commands that send events from a file, and that list and drain the spool."""
