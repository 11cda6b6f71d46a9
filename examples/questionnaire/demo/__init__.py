"""The play behind ``manage.py demo``.

===========  =====================================================================================
``cast``     who takes part, and what their browsers send
``play``     sends it through the views, in an order of its own; then repairs what failed
``endings``  how every task ended, and how an ending came about
``audit``    what must be true afterwards, counted in the database
``orders``   two plays of the same cast: what depended on the order
``show``     tables and lines for people
===========  =====================================================================================
"""
