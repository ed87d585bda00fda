"""A run as a bundle: traced, checked against the run, described, measured, made anew."""
