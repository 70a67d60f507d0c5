"""Transport: attempts, downloads and the rate limit."""
