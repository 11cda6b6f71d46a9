"""How an application tests its workflows and tasks: ``python manage.py test``."""
