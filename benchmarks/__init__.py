"""Side by side with the library a user would take instead: same arithmetic, same machine, same minutes."""
