"""The lab: command line, data sets, training, evaluation, comparison and report."""
