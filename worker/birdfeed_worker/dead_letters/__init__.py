"""Events that could not be written: record, query, move and delete them."""
