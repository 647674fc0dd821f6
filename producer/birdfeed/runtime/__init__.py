"""The producer's process: forks, signals and exit."""
