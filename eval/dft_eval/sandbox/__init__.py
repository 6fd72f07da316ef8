"""Run untrusted programs: isolation, limits, outcomes that no program can forge.

`program.py` defines commands and outcomes; `bubblewrap.py` and `landlock.py` are two ways to isolate it;
`choose.py` tries each and picks one, or refuses; `run.py` adds the serial rerun of timeouts.
"""
