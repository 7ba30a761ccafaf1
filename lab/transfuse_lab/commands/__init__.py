"""One file a command, or two that belong together: what it opens, what it prints, where its files go.

Nothing another room could use; nothing imports it but `cli`.
"""
