"""What operators see: ledger, status, queue depth and metrics."""
