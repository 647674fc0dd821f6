"""The stages of an event in a worker, in order: decode, validate, enrich, batch, send, settle."""
