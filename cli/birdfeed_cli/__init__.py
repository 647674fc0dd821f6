"""The command line. Only this package may import the producer, the worker and the sandbox."""
