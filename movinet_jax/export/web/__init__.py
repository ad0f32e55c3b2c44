"""A static folder that runs a network in the browser, on its camera or on a video file."""

from movinet_jax.export.web.folder import write_web
from movinet_jax.export.web.packages import find_packages

__all__ = ['find_packages', 'write_web']
