"""Reports that a person can read: a page of one run, runs side by side. Tasks say what is to be seen of records."""
