"""What the command line's verbs do: one file a verb. Calls, and prints what came of it."""
