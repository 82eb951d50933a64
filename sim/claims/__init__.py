"""Claims of studies: read from their files before any result is known, and judged on the collected tables."""
