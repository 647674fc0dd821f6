"""`birdfeed prices ...`: the price book and stored costs."""
