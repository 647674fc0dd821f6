"""Normalise usage as providers report it."""
