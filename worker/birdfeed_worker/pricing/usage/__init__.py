"""Usage as providers report it, brought into one form."""
