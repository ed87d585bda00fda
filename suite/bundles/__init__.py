"""What answering needs: a bundle opened and asked, apart from training, Flax and the tasks."""
