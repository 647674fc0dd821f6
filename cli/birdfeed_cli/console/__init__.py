"""`birdfeed console`: what the commands show, as pages in a browser."""
