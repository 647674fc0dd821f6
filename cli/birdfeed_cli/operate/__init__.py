"""Commands that show and change the system's state: status, ledger, metrics, resume, forget."""
