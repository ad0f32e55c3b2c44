"""Checks of whether a command will run, made before anything is paid for."""
