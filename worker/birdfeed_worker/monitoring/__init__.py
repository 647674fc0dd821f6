"""What operators see: ledger, status, queue depth, metrics."""
