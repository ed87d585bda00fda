"""Tasks on pairs of modalities."""
