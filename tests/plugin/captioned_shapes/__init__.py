"""Captioned shapes, a task in a package of its own: is this the caption of this picture, and which picture fits it?"""
