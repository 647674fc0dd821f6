"""A provider's bill against the store: read what the provider exports, compare by day and model, and explain."""
