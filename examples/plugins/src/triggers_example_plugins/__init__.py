"""A manager, a storage and a runner for ``triggers``, as another distribution would bring them.

Nothing needs to import this package: ``triggers`` finds its classes by their entry points.
"""
