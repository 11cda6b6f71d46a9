"""Trying a workflow on an event log of the past, before it is deployed.

What lives here: values and timestamps of a log (:mod:`.event`), the bytes of a file, plain or
gzip (:mod:`.bytestream`), the two readers (:mod:`.csvlog`, :mod:`.xeslog`) behind one class
(:mod:`.eventlog`), the order of events on disk (:mod:`.spool`), one worker's share of the cases
(:mod:`.replay`), by the clock of the log where time matters (:mod:`.logtime`), and how the shares
are run side by side (:mod:`.workers`), the figures (:mod:`.tally`) and how they and the progress
look (:mod:`.report`, :mod:`.progress`). The command line is in :mod:`triggers.commands.backtest`.
"""
