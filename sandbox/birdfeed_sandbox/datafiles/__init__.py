"""Reads Tinybird's datafiles. It uses only the standard library: no engine, no web server."""
