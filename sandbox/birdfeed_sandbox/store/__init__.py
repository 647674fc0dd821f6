"""Where rows are kept and queried."""
