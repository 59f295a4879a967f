"""How each language's dependencies are installed on this machine, and how its functions are started here."""
