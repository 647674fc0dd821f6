"""The producer's errors. None of them reaches a handler: track_event and track never raise."""


class BirdfeedError(Exception):
    """Base class of the producer's errors."""


class ConfigurationError(BirdfeedError, ValueError):
    """The settings are wrong; the message names each wrong setting, but never its value."""


class SpoolError(BirdfeedError):
    """The disk spool can't be used now; the message says why: no permission, no space, held by another process."""
