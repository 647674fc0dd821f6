"""A customer's tier: where it comes from, how it is cached, and which one an event gets."""
