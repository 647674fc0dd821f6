"""The price book: load, check, reload, compare and show it."""
