"""Toolchains of the benchmark languages: what is installed, how a program is compiled and run in a sandbox."""
