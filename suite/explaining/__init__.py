"""Explanations: what an answer is owed to, by several methods, with measures of how far each can be believed."""
