"""What is measured: of one trained model, its metrics and record; of several records, figures over seeds.

Imports runs and data sets; reports, pictures and comparisons take what is made here.
"""
