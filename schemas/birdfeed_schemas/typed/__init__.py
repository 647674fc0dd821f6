"""Structs derived from the event models. A worker decodes ordinary lines into them in one step."""
