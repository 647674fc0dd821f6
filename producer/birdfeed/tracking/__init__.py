"""Time a call to a model, streams included, and send its event."""
