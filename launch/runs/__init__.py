"""Runs: configs resolved once into frozen objects, and what is done with those.

Below this folder nobody sees a config. Each of `training`, `search` and `sweep` has a
`Config`, the dataclass of what its config files hold, and `resolve`, which builds a
`Training`, `Search` or `Sweep` from one with every check that needs no video and no compiler.
"""
