"""The one trainer, and what surrounds its loop: evaluations, checkpoints, interruptions."""
