"""A project as a user writes it, with types: mypy must accept it, and its own tests must pass.

``tests/packaging/test_types.py`` installs the package and does both. What mypy must refuse stands
in ``wrong.py``, which is never run.
"""
