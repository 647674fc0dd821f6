"""`birdfeed console`: the commands' output as pages in a browser."""
