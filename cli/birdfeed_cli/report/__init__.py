"""`birdfeed report`: usage and cost as text, JSON or a page."""
