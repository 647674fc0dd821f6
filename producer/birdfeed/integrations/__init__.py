"""Integrations of web frameworks, job queues and SDKs. None is required: track_event works without them."""
