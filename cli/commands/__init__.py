"""One module per command or pair of commands: parse, call one function, print."""
