"""System checks: each way in which a set-up can be wrong, with an id of its own."""

from __future__ import annotations
