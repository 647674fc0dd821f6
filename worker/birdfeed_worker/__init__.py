"""What an operator runs: takes jobs from Redis, prices the events, writes them to Tinybird, keeps what failed."""
