"""What triggers costs, measured against the least that the same work can cost.

``python -m benchmarks`` runs everything and prints one table; ``python -m benchmarks memory`` runs
one; ``--quick`` only shows that it works; ``--json FILE`` writes the figures down as well, and
``--rst FILE`` the table of the documentation. The exit status is 1 if a limit was not kept.

Every figure that has a limit is a *ratio* of two measurements from the same run, taken in turns, so
that a slow or busy machine slows both down and the ratio stays. Servers are our own, on one
processor, and their clients on another. ``docs/explanation/cost.rst`` says what is compared with
what, and why that is fair.

==================  ===============================================================================
``memory``          an event log on the memory storage, against the engine alone
``sqlite``          one firing on SQLite, against a bare transaction of Django's ORM
``redis``           one firing on Redis, against a bare ``EVALSHA``, or a bare ``apply_async``
``postgresql``      one firing on PostgreSQL, against a bare transaction with a row lock
``growth``          a firing in a session with a long past, against one in a short session;
                    ``growth-redis``, ``growth-postgresql`` and ``growth-mariadb`` too
``throughput-…``    firings a second from one and two processes, ``redis`` and ``postgresql``
``worker``          completions a second of a Celery worker, beside plain tasks and chords
``joins``           the same join by triggers, a chord and pynenc
==================  ===============================================================================
"""
