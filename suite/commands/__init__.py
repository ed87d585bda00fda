"""The verbs as commands: flags in, lines for people out. Each is a function of ``suite`` underneath."""
