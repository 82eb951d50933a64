"""Parts of the main job, `figures.reproduce`: stages, their progress, and whether results are up to date."""
