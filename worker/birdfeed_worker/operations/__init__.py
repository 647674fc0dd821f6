"""What an operator does to jobs, dead letters and rows. No worker process imports it."""
