"""What all parts of birdfeed share: events, rows, prices, the wire format. Importing the package itself is cheap."""
