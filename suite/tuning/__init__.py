"""The goal loop: trials of a search, what is proposed next, which process has which, how it ended."""
