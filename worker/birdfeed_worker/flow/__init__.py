"""How much may be sent, and when: rate limits, backoff, and the dead-letter circuit breaker."""
