"""Pictures that commands write: sheets of samples, pairs of real and generated, layouts of masks.

Takes drawings as modalities make them, SVG and PNG; no run, model or data set is opened here.
"""
