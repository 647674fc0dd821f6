"""`birdfeed demo` and `birdfeed up`: everything on this machine."""
