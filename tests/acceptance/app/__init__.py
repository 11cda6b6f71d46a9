"""What the snippets of the documents take for granted: a small survey application."""

__version__ = "1.2.3"
