"""The ``redis`` storage: sessions in Redis or Valkey, for many firings a second.

============  ===================================================================================
``storage``   the port: how a session is decided on and looked into
``plain``     what the server decides by itself, in one round trip
``slices``    what it must know of a configuration for that
``reading``   what any other decision must see, as a question to the server
``writing``   what a decision changes, as commands
``listing``   which sessions there are, and in which something is due
``keys``      the names of the keys
``records``   instances, firings and pending marks as text
``plans``     configurations that this process knows
``scripts``   the scripts, which are files beside this one
``server``    connections and errors
============  ===================================================================================

Why it is done so: ``docs/decisions/0015-redis-one-round-trip.rst``.
"""

from triggers.storages.redis.storage import RedisStorageBackend

__all__ = ["RedisStorageBackend"]
