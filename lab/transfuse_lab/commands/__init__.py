"""One file a command of the command line: what it prints, and nothing another room could use.

Nothing imports it but `cli`.
"""
