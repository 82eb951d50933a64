"""What the commands of ``python -m sim`` do."""
