"""What operators do to jobs, dead letters and rows. No worker process imports this package."""
