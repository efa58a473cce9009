"""Batches: many guests, each converted by a process of its own, and what became of them.

`inventory` finds the guests, `tasks` converts one, `runner` does so for all of them with the
processes of this machine or (`cluster`) of several, `ledger` remembers, `report` shows.
"""
