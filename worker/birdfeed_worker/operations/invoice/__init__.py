"""Compare a provider's bill with the stored rows: read the provider's export, compare by day and model, explain."""
