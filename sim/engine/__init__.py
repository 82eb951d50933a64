"""The engine of studies: from a TOML file to tasks, run anywhere, stored safely, collected into tables."""
