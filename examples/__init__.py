"""Projects that show how ``triggers`` is used; each one runs by itself."""
