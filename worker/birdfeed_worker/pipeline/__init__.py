"""The stages an event passes in a worker, in the order of the data: decode, validate, enrich, batch, send, settle."""
