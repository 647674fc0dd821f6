"""The process around the producer: forks, signals and exit."""
