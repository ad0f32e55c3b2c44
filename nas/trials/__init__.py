"""The engine of searches that train networks one by one.

A coordinator keeps the study in a database, asks the algorithm what to try and hands it to
workers, processes of its own that never see the database: see engine.py. Nothing is
imported here, for workers have no use for what coordinators import.
"""
