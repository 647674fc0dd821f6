"""Reprice: compute the cost of stored rows again, and write corrections."""
