"""Running programs nobody has read: isolation, limits, verdict-safe outcomes.

`program.py` says what is run and what came of it; `bubblewrap.py` and `landlock.py` are two ways to isolate it;
`choose.py` tries the real thing and picks one, or refuses; `run.py` adds the serial rerun of timeouts.
"""
