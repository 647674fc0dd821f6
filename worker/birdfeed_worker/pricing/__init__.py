"""The cost of an event, from its usage and the price book. Pure: no Redis, no network."""
