"""The sandbox's HTTP server: requests, responses and limits."""
