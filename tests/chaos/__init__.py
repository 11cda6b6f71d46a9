"""The chaos suite: joins that must complete while everything around them is killed.

``python -m tests.chaos`` runs it (``make chaos``); docs/explanation/chaos.rst says what it does.
"""
