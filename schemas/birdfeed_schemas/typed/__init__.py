"""Events as structs that are derived from their models: what a worker decodes ordinary lines into, in one step."""
