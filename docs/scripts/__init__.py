"""Scripts that generate pages and pictures from the code: `make docs`."""
