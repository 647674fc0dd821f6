"""What makes pages and pictures from the code: `make docs`."""
