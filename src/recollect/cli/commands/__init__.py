"""One module per command: arguments to a verb's options, a verb's result to text and JSON."""
