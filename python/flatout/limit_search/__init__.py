"""Finding the highest load that a server holds: pure deciders and the shell that carries them out."""
