"""The machine and the outside: worker processes, memory, addresses, terminals, untrusted files."""
