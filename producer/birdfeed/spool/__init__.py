"""Batches on disk while Redis is away."""
