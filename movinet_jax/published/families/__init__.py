"""Published results: each file is a family, of one paper and of the releases of its networks.

A family's file defines

* `RESULTS`: what is printed about its networks, of each the one to quote first.
* `LATENCIES`: what runtimes are printed.
* `SHORT_SIDES`: by network without `-stream`, pixels that a picture's shorter side has when
  published networks are evaluated.
"""
