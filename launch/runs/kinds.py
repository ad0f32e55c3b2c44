"""The kinds of runs by the verb that runs them; each has `Config` and `resolve`."""

from launch.runs import search, sweep, training

RUNS = {'train': training, 'search': search, 'sweep': sweep}
