"""How much may be sent, and when: rates, backoff, and the circuit breaker for dead letters."""
