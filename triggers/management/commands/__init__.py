"""``manage.py triggers``; its subcommands live in :mod:`triggers.commands`."""
