"""The price of one event, its receipt, and exact arithmetic with money."""
