"""The report of a comparison: one self-contained HTML page that says what was measured, and how.

Imports records and figures over seeds; `page.write_report` is its door.
"""
