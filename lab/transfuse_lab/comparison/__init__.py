"""Recipes over seeds and axes: jobs, statistics, compare.json."""
