"""The machine, and what comes from outside: processes, memory, paths, terminals, files that somebody else made."""
