"""Commands that send events by hand and look after the spool."""
