"""A page on loopback that shows a stream live; the standard library serves it.

`Page` is the server. What it shows is a `Broadcast`, one stream of a source for all viewers, or
`Viewers`, a stream for the camera of each browser. The page's script learns from `/about` which.
"""

from movinet_jax.serve.page.broadcast import Broadcast
from movinet_jax.serve.page.server import Page
from movinet_jax.serve.page.viewers import BrowserCamera, Viewers

__all__ = ['Broadcast', 'BrowserCamera', 'Page', 'Viewers']
