"""Measure a call to a model, streams included, and make its event."""
