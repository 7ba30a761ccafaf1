"""Where settings and plugins are found: registry files, `--set`, entry points, hooks.

Imports config and masks; never torch itself.
"""

from transfuse.registry.registry import Registry as Registry
