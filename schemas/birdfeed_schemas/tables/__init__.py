"""Tables that code, data sources, docs and tests are made from: meters of usage, and providers by name."""
