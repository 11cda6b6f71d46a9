"""What triggers costs, measured against the least that the same work can cost.

``python -m benchmarks`` runs everything and prints one table; ``python -m benchmarks memory`` runs
one; ``--quick`` only shows that it works; ``--json FILE`` writes the figures down as well.

Every figure that has a limit is a *ratio* of two measurements from the same run, taken in turns, so
that a slow or busy machine slows both down and the ratio stays. ``docs/explanation/cost.rst`` says
what is compared with what, and why that is fair.

==============  ===================================================================================
``memory``      an event log on the memory storage, against the engine alone
``sqlite``      one firing on SQLite, against a bare transaction of Django's ORM
``growth``      one firing in a session with a long past, against one in a short session
``postgresql``  as ``sqlite`` and ``growth``, where a server answers
==============  ===================================================================================
"""
